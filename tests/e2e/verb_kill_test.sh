#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each failover verb is killed (SIGKILL) behind the K-th thing that it does, and given again: it
# succeeds, and all is as if nobody had killed it. Or the process of the job that it makes is killed,
# and the agent goes on. kill_step.c says what is counted.
#   KILL_ROUNDS  MODE:K..., a round of all verbs each. MODE verb: the verb's own process; job: the
#                verb is given on the other host, and its job's process is killed; other: that of the
#                job that it makes on the other host. K `few`: one K for each verb, see few(). `all`
#                instead of the rounds: every K that there is, of all three
#   KILL_MODES, KILL_FROM  of `all`: these modes, from this K on
. "$(dirname "$0")/lib.sh" "$@"
: "${KILL_ROUNDS:=verb:few}"
AGAIN=8 # times that a verb may have to be given
COUNTER_PAUSE_MS=40 # the disk is not to fill in a long run
counting_hosts a b
cc -O2 -shared -fPIC -std=c17 -o "$TMP/kill_step.so" "$SOURCE/tests/e2e/kill_step.c"

# --- killing ---

# MODE K: the next process of that kind is the one. Agents look for the file that arms it.
arm() {
    rm -f "$TMP/steps" "$TMP/armed-"*
    echo "$2" >"$TMP/armed-$1"
}
killer() { # HOST VERB ARMED COMMAND...: in place of this shell
    on "$1" exec env LD_PRELOAD="$TMP/kill_step.so" KILL_VERB="$2" KILL_ARMED="$TMP/armed-$3" \
        KILL_LOG="$TMP/steps" "${@:4}"
}
killable_agent() { # HOST
    killer "$1" run-job "job-$1" "$FARSHORE" host "$1" --foreground --interval 1 \
        >>"$TMP/agent-$1.log" 2>&1 &
    PIDS+=("$!")
}
step_killed() { sed -n "$1p" "$TMP/steps" 2>/dev/null | sed "s|$TMP/||g" || true; }

# --- what is there ---

fuse_mounts() { findmnt -rnt fuse.farshore -o TARGET | grep "^$TMP/" | sort -u || true; }
count_files() { find "$@" -type f 2>/dev/null | wc -l; }
disks() { count_files "$TMP/$1/state/disks"; }
# But for leases: a view has one for as long as it is open, and one more while it renews it.
pins() { find "$TMP/target" "$TMP/cache" -path '*/pins/*' -type f ! -name 'lease-*' | wc -l; }
guests() {
    local p name
    for p in "$TMP"/pid-*; do
        name=${p##*/pid-}
        ! counter_runs "$name" || echo "$name"
    done
}
# All that there is, on a line: the state; which machines run; what is mounted; files of drills and
# seeds; local disk files and holds of points that came since the round began; the fence of the host
# that was left, which learns of an unplanned failover in its own time.
scene() {
    echo "$(state B); runs" $(guests) "; mounted" $(fuse_mounts | sed "s|$TMP/||") \
        "; drills $(count_files "$TMP"/{a,b}/state/{tests,scratch,seeds} | sed 's/^[1-9].*/some/')" \
        "; disks $(($(disks a) - DISKS_A)) $(($(disks b) - DISKS_B)), holds $(($(pins) - PINS))" \
        "$([ "$1" = failover ] || echo "; moved" $(cd "$TMP" && ls a/state/vms/web/moved 2>/dev/null))"
}
# A local disk is a file and its map.
wanted_scene() {
    local drill='runs a-web b-web-test ; mounted b/state/tests/web/1/mount src ; drills some'
    local on_b='runs b-web ; mounted b/state/mounts/web ; drills 0 ; disks 0 2, holds 1 ; moved a/state/vms/web/moved'
    case $1 in
    test-failover) echo "test-running; $drill ; disks 0 0, holds 1 ; moved" ;;
    cleanup | cancel) echo "none; runs a-web ; mounted src ; drills 0 ; disks 0 0, holds 0 ; moved" ;;
    failover) echo "failed-over; runs b-web ; mounted b/state/mounts/web src ; drills 0 ; disks 0 2, holds 1 " ;;
    planned | change-point) echo "failed-over; $on_b" ;;
    commit) echo "committed; $on_b" ;;
    reprotect) echo "none; $on_b" ;;
    failback) echo "failing-back; runs a-web ; mounted src ; drills 0 ; disks 2 2, holds 2 ; moved" ;;
    # One that was over when it was killed, and given again, reverts once more.
    revert-twice) wanted_scene revert | sed 's/disks 4 2, holds 3/disks 6 2, holds 4/' ;;
    revert) echo "none; runs a-web ; mounted src ; drills 0 ; disks 4 2, holds 3 ; moved" ;;
    esac
}
busy() { { A jobs web --json; B jobs web --json; } |
    jq -e '.jobs[] | select(.state == "running" or .state == "waiting")' >/dev/null; }
quiet() { ! busy; }

# --- one verb ---

# A K at which a kill once did harm, or between the effects that matter most.
few() { # VERB
    case $1 in
    test-failover) echo 3 ;; cleanup) echo 7 ;; failover) echo 16 ;; cancel) echo 16 ;; planned) echo 8 ;;
    change-point) echo 10 ;; commit) echo 2 ;; reprotect) echo 14 ;; failback) echo 19 ;; revert) echo 20 ;;
    esac
}
other() { case $1 in A) echo B ;; B) echo A ;; a) echo b ;; b) echo a ;; esac; }
# Verbs that choose a host are told it.
there() { case $1 in failover | test-failover) echo --host "$2" ;; esac; }

# NAME HOST VERB WANTED ARGUMENT...: WANTED holds when it is done.
verb() {
    local name=$1 host=$2 verb=$3 wanted=$4 k=$K got=0 n=0 steps why
    shift 4
    [ "$k" != few ] || k=$(few "$name")
    case $MODE in
    verb) arm verb "$k"; (killer "${host,}" "$verb" verb "$FARSHORE" "$verb" web "$@") ;;
    job) arm "job-${host,}" "$k"; "$(other "$host")" "$verb" web $(there "$verb" "${host,}") "$@" ;;
    other) arm "job-$(other "${host,}")" "$k"; "$host" "$verb" web "$@" ;;
    esac >"$TMP/out" 2>"$TMP/err" || got=$?
    rm -f "$TMP/armed-"*
    steps=$(wc -l 2>/dev/null <"$TMP/steps" || echo 0)
    [ "$steps" -ne "$k" ] || { KILLED=yes; echo "   $name: killed behind step $(step_killed "$k"), exit $got"; }
    why=$(tail -1 "$TMP/err")
    while [ $got -ne 0 ] && [ $n -lt $AGAIN ]; do
        got=0 n=$((n + 1))
        "$host" "$verb" web "$@" >"$TMP/out" 2>"$TMP/err" || got=$?
        [ $got -eq 0 ] || { echo "      again: $(tail -1 "$TMP/err")"; sleep 0.5; }
        # Nothing of it is left is what it asked for.
        [ "$verb" != cleanup ] || ! grep -q 'has no drill' "$TMP/err" || got=0
    done
    [ $got -eq 0 ] || { A jobs web; B jobs web; fail "$name is never done"; }
    # A job whose process dies goes on by itself; half a drill is a person's to look at.
    [ $MODE = verb ] || [ $n -eq 0 ] || [ "$name" = test-failover ] || fail "$name had to be given again: $why"
    TWICE=$([ $n -eq 0 ] || echo "$name-twice")
    wait_for 30 eval "$wanted"
    # A drill that was half made stays until the cleanup, beside the next one.
    [ "$name" = test-failover ] && [ "$n" -gt 0 ] || compare "$name"
}
compare() {
    local end=$((SECONDS + 20))
    [ ! -e "$TMP/twice" ] || fail "$1: $(cat "$TMP/twice")"
    until [ "$(scene "$1")" = "$(wanted_scene "$1")" ] || [ "$(scene "$1")" = "$(wanted_scene "$TWICE")" ]; do
        [ $SECONDS -lt $end ] || fail "$(tail -qn1 "$TMP"/acks-*)
after $1 there is
$(scene "$1"), not
$(wanted_scene "$1")"
        sleep 0.3
    done
}

# --- a round ---

is() { [ "$(state B)" = "$1" ]; }
runs_on() { guests | says -x "$1-web" && counts "$1-web"; }
done_on() { is "$2" && runs_on "$1"; } # HOST STATE

a_round() {
    MODE=$1 K=$2 KILLED=no
    local last point
    DISKS_A=$(disks a) DISKS_B=$(disks b) PINS=$(pins)
    say "round $MODE:$K"
    A point web --wait=target >/dev/null
    verb test-failover B test-failover 'guests | says -x b-web-test'
    verb cleanup B cleanup 'is none'
    counts a-web || fail "the source does not go on"

    stop_counter a web
    last=$(acked a-web)
    A point web --wait=target >/dev/null
    verb failover B failover 'done_on b failed-over'
    took_over a-web b-web
    verb cancel B cancel 'done_on a none'
    [ "$(found a-web)" -eq "$last" ] || [ "$(found a-web)" -eq $((last + 1)) ] ||
        fail "acknowledged $last, after the cancel found $(found a-web)"

    A point web --wait=target >/dev/null
    verb planned B failover 'done_on b failed-over' --planned
    took_over a-web b-web
    point=$(B points web --json | jq -r '.points[-1].id')
    last=$(found b-web)
    verb change-point B change-point 'done_on b failed-over && at_point' "$point"
    [ "$(found b-web)" -le "$last" ] || fail "it is not the point: $(found b-web) records, not $last"
    verb commit B commit 'is committed'
    verb reprotect B reprotect 'done_on b none'

    last=$(acked b-web)
    verb failback A failover 'done_on a failing-back' --planned
    took_over b-web a-web
    A commit web >/dev/null
    A reprotect web >/dev/null
    wait_for 20 is none

    A point web --wait=target >/dev/null
    point=$(B points web --json | jq -r '.points[-1].id')
    last=$(acked a-web)
    wait_for 10 counts a-web $((last + 5))
    reverted=$(acked a-web)
    verb revert A revert 'done_on a none && was_reverted' --point "$point"
    A point web --wait=target >/dev/null
    # Nor did an agent that found a killed one late.
    wait_for 60 quiet
    compare revert
}
at_point() { [ "$(found b-web)" -le "$last" ]; }
was_reverted() { [ "$(found a-web)" -lt "$reverted" ]; }

enable_vm web 64M os >/dev/null
A set web start="$TMP/start-a" stop="$TMP/stop-a" mount="$TMP/src" >/dev/null
mount_vm web
join_vm web >/dev/null
B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
start_counter a web "$TMP/src"
killable_agent a
killable_agent b
wait_for 20 counts a-web 5
if [ "$KILL_ROUNDS" != all ]; then
    for round in $KILL_ROUNDS; do a_round "${round%:*}" "${round#*:}"; done
else
    for MODE in ${KILL_MODES:-verb job other}; do
        for ((K = ${KILL_FROM:-1}; ; K++)); do
            a_round $MODE $K
            [ $KILLED = yes ] || break
        done
    done
fi
stop_counter a web
