#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Who may write. Hosts that are copies of one another, some asleep while others went on, one with an
# older state put back: one of them ships, the others are fenced and serve their guests all the same.
# Then three processors at a time that are killed at random moments. In the end there is a point for
# each epoch, made by a host that was right, and it shows what that host's disks held.
# SEED is that of what is left to chance, ROUNDS says how often each part comes, PARTS which of those
# with several hosts, POINTS how many are made while processors are killed.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"
ROUNDS=${ROUNDS:-1} SEED=${SEED:-$RANDOM} POINTS=${POINTS:-8}
PARTS=${PARTS-several_at_once one_sleeps slots_used_and_removed older_state state_of_the_same_epoch}
RANDOM=$SEED
lists_lag=$(grep -oe --lag <<<"${FAULTY_OPTIONS:-}" || true)
live=a      # the host whose entries count
hosts=0     # copies made so far
outcasts=() # hosts that are fenced
ghost=      # a processor beside all that
forked=     # something lies in a slot that was used and removed

# --- hosts ---

F() { on "$1" "$FARSHORE" "${@:2}"; }                     # HOST VERB...
told() { F "$1" status web --json | jq -r ".vms[0].$2"; } # HOST MEMBER
state_is() { [ "$(told "$1" state)" = "$2" ]; }           # HOST STATE
state_of() { echo "$TMP/$1/state/vms/web"; }              # HOST
mount_host() { mkdir -p "$TMP/src-$1" && F "$1" mount web "$TMP/src-$1" --cut-interval 1; }
unmount_host() { F "$1" unmount "$TMP/src-$1" "${@:2}"; }

copy_host() { # FROM: all but its folders' names; sets `host`
    hosts=$((hosts + 1))
    host=h$hosts
    mkdir "$TMP/$host"
    cp -a "$TMP/$1"/{config,state,disks} "$TMP/$host"
    sed -i "s#$TMP/$1/disks#$TMP/$host/disks#" "$TMP/$host/config/vms/web.json"
}

stamp() { # HOST TEXT: into the first block
    printf '%s' "$2" | dd of="$TMP/src-$1/os.img" bs=4096 conv=notrunc,sync,fsync status=none
}
shown() { head -c 4096 "$1" | tr -d '\0'; }             # IMAGE
lose() { echo "$2" >>"$TMP/lost" && stamp "$1" "$2"; } # HOST TEXT: what no point may show

# A point that must count, with more in it than an entry holds itself.
ask_point() { # HOST TEXT
    local id
    stamp "$1" "$2"
    head -c 2M /dev/urandom >"$TMP/big"
    dd if="$TMP/big" of="$TMP/src-$1/big.img" bs=1M conv=notrunc,fsync status=none
    id=$(F "$1" point web --wait --timeout 60) || fail "host $1 may ship, and has no point"
    echo "$id $(sha256sum <"$TMP/big" | cut -d' ' -f1) $2" >>"$TMP/asked"
}

# --- who is fenced ---

entry() { printf 'web/%s/%016d' "$generation" "$1"; } # EPOCH

# The host says so and why, whoever asks it for a point is refused, and its guest does not notice. It
# stays mounted to the end.
fenced() { # HOST
    wait_for 30 state_is "$1" fenced
    told "$1" reason | says -E 'written by another source|is gone from the cache store or differs' ||
        fail "host $1 does not say why: $(told "$1" reason)"
    lose "$1" "$1 is fenced"
    expect_exit 4 fenced F "$1" point web --wait
    outcasts+=("$1")
    told "$1" epoch >"$TMP/epoch.$1"
}

# All this while they have served their guests, and shipped nothing.
outcasts_end() {
    local h
    kill -KILL "$(told "${outcasts[0]}" worker_pid)" # the next one knows it, too
    for h in "${outcasts[@]}"; do
        wait_for 10 state_is "$h" fenced
        [ "$(told "$h" epoch)" = "$(cat "$TMP/epoch.$h")" ] || fail "$h shipped behind its fence"
        [ "$(shown "$TMP/src-$h/os.img")" = "$h is fenced" ] || fail "the guest of $h lost a write"
        unmount_host "$h" --timeout 1
    done
}

# Two copies of the live host and itself write and ship at the same moment.
several_at_once() {
    local racers=("$live") pids=() won=() h code race=$SECONDS.$hosts
    freeze "$live" web
    for _ in 1 2; do
        copy_host "$live"
        racers+=("$host")
    done
    thaw
    for h in "${racers[@]:1}"; do mount_host "$h"; done
    for h in "${racers[@]}"; do
        (
            code=0
            stamp "$h" "race $race, $h"
            F "$h" point web --wait --timeout 60 >"$TMP/race.$h" 2>&1 || code=$?
            echo $code >"$TMP/code.$h"
        ) &
        pids+=($!)
    done
    wait "${pids[@]}"
    for h in "${racers[@]}"; do
        code=$(cat "$TMP/code.$h")
        [ "$code" -ne 0 ] || won+=("$h")
        [ "$code" -eq 0 ] || [ "$code" -eq 4 ] || fail "host $h: $(cat "$TMP/race.$h")"
    done
    [ ${#won[@]} -eq 1 ] || fail "of ${racers[*]} went on: ${won[*]:-none}"
    live=${won[0]}
    for h in "${racers[@]}"; do
        [ "$h" = "$live" ] || { echo "race $race, $h" >>"$TMP/lost" && fenced "$h"; }
    done
    ask_point "$live" "$live won"
}

ask_for_a_while() { # HOST
    F "$1" point web --wait --timeout 120 >"$TMP/late" 2>&1 &
    asking=$!
    sleep "0.$(printf %03d $((RANDOM % 120)))"
}

# The live host falls asleep somewhere on the way to a point, and its copy ships so many. When they
# are some, the processor has removed the slot that the sleeper is going to use. The sleeper's point
# may have been made: then it counts.
overtake() { # POINTS
    local sleeper=$live slot i asking code=0 text="$live falls asleep, $SECONDS"
    stamp "$sleeper" "$text"
    freeze "$sleeper" web ask_for_a_while "$sleeper"
    copy_host "$sleeper"
    live=$host
    slot=$(($(jq .epoch "$(state_of "$live")/ship.json") + 1))
    mount_host "$live"
    for i in $(seq "$1"); do ask_point "$live" "$live while $sleeper sleeps, $i"; done
    if [ "$1" -ge 4 ]; then
        B process web --once >/dev/null
        [ -n "$lists_lag" ] || # then it goes later
            ! holds cache "$(entry "$slot")" || fail "epoch $slot was to be gone from the cache"
    fi
    thaw
    wait $asking || code=$?
    echo "$sleeper's point: $code, $(cat "$TMP/late")"
    [ $code -ne 0 ] || echo "$(cat "$TMP/late") - $text" >>"$TMP/asked"
    lose "$sleeper" "$sleeper is awake"
    wait_for 30 state_is "$sleeper" fenced
    slot=$(($(told "$sleeper" epoch) + 1))
    fenced "$sleeper"
    [ "$1" -lt 4 ] || fork_is_told "$slot"
    [ "$1" -lt 4 ] || [ -n "$lists_lag" ] || ! holds cache "$(entry $((slot + 1)))" ||
        fail "$sleeper put more than one entry"
    ask_point "$live" "$live goes on"
}

one_sleeps() { overtake 1; }
slots_used_and_removed() { overtake $((4 + RANDOM % ROUNDS)); }

# What was put into a slot that had been removed counts for nobody, and is neither lost nor hidden.
fork_is_told() { # EPOCH
    holds cache "$(entry "$1")" && [ -z "$lists_lag" ] || return 0
    B process web --once >"$TMP/out" 2>&1
    grep -q 'fork at epoch' "$TMP/out" || fail "epoch $1 is not reported: $(cat "$TMP/out")"
    holds cache "$(entry "$1")" || fail "the fork at epoch $1 was removed"
    echo "a fork at epoch $1 is kept and reported"
    forked=1
}

# The state is put back as it was, and its log has not moved on: only the disks have.
state_of_the_same_epoch() {
    unmount_host "$live" --wait # no mark stays
    mount_host "$live"
    freeze "$live" web
    cp -a "$(state_of "$live")" "$TMP/older"
    thaw
    F "$live" pause web >/dev/null # nothing was dirty
    head -c 256K /dev/urandom >"$TMP/more" # to where nobody else writes
    dd if="$TMP/more" of="$TMP/src-$live/big.img" bs=1M seek=24 conv=notrunc,fsync status=none
    unmount_host "$live" --timeout 1
    rm -r "$(state_of "$live")"
    mv "$TMP/older" "$(state_of "$live")"
    mount_host "$live"
    ask_point "$live" "$live has the state of the same epoch"
}

# An older copy of the state is put back beside newer disks; then the newest one.
older_state() {
    local i
    freeze "$live" web
    cp -a "$(state_of "$live")" "$TMP/older"
    thaw
    for i in 1 2 3 4; do ask_point "$live" "$live before its state is gone, $i"; done
    unmount_host "$live" --wait
    B process web --once >/dev/null
    mv "$(state_of "$live")" "$TMP/newest"
    mv "$TMP/older" "$(state_of "$live")"
    mount_host "$live"
    wait_for 30 state_is "$live" fenced
    unmount_host "$live" --timeout 5
    rm -r "$(state_of "$live")"
    mv "$TMP/newest" "$(state_of "$live")"
    mount_host "$live"
    ask_point "$live" "$live has its state again"
}

# --- processors ---

# One that is killed at random moments and started again.
haunt() { # SEED
    local code
    RANDOM=$1
    while [ ! -e "$TMP/enough" ]; do
        b exec setpriv --pdeathsig KILL "$FARSHORE" process web --interval 1 >>"$TMP/process.log" 2>&1 &
        sleep "0.$(printf %02d $((RANDOM % 90 + 5)))"
        code=0
        kill -KILL $! && wait $! || code=$?
        echo $code >>"$TMP/killed"
    done 2>/dev/null # the shell tells of each that was killed
}

# Points are made while three of them apply and tidy. When all are dead, what was not applied waits
# in the cache.
processors() { # POINTS
    local haunts=() i n applied head
    rm -f "$TMP/enough"
    for i in 1 2 3; do
        haunt $((SEED + i)) &
        haunts+=($!)
        PIDS+=($!)
    done
    for i in $(seq "$1"); do ask_point "$live" "processors, $i"; done
    touch "$TMP/enough"
    wait "${haunts[@]}"
    ! grep -vx 137 "$TMP/killed" || fail "a processor ended by itself: $(cat "$TMP/process.log")"
    for i in 1 2; do ask_point "$live" "no processor, $i"; done
    applied=$(B points web --json | jq '.points[-1].epoch // 0')
    head=$(told "$live" epoch)
    echo "$applied of $head epochs are applied, $(wc -l <"$TMP/killed") processors were killed"
    for n in $(seq $((applied + 1)) "$head"); do
        holds cache "$(entry "$n")" || fail "epoch $n is neither applied nor in the cache"
    done
}

# --- all ---

points_are_good() {
    local id sum text
    ! grep ' error ' "$TMP/process.log" | grep -v 'fork at epoch' || fail "a processor complains"
    B process web --once >/dev/null
    B points web --json >"$TMP/points.json"
    jq -e --argjson head "$(told "$live" epoch)" \
        '[.points[].epoch] == [range(1; $head + 1)] and ([.points[].id] | . == unique)' \
        "$TMP/points.json" >/dev/null || fail "not a point for each epoch: $(cat "$TMP/points.json")"
    mkdir -p "$TMP/rec"
    B recover "$TMP/rec" --vm web
    while read -r id sum text; do
        [ "$(shown "$TMP/rec/web/points/$id/os.img")" = "$text" ] || fail "$id does not show: $text"
        [ "$sum" = - ] || [ "$(head -c 2M "$TMP/rec/web/points/$id/big.img" | sha256sum)" = "$sum  -" ] ||
            fail "$id ($text) shows another big.img"
    done <"$TMP/asked"
    for id in $(jq -r '.points[].id' "$TMP/points.json"); do
        text=$(shown "$TMP/rec/web/points/$id/os.img")
        ! grep -qxF -- "$text" "$TMP/lost" || fail "$id is of a host that was fenced: $text"
    done
    [ -z "$forked" ] || told "$live" processor | says 'fork at epoch' ||
        fail "the source does not tell of the fork: $(told "$live" processor)"
    check_points web "$TMP/rec" "$TMP/log" data
    for disk in os data big; do cmp "$TMP/rec/web/latest/$disk.img" "$TMP/$live/disks/$disk.raw"; done
    umount "$TMP/rec"
}

say "enabled; $FARSHORE_TEST_SERVER, seed $SEED"
mkdir -p "$TMP/a/disks"
touch "$TMP/lost"
for disk in os data big; do
    truncate -s $([ $disk = big ] && echo 32M || echo 4M) "$TMP/a/disks/$disk.raw"
    disks+=(--disk "$disk=$TMP/a/disks/$disk.raw")
done
A enable web "${disks[@]}" --cache "$CACHE" --target "$TARGET" >/dev/null
B join "$TARGET" --key "$TMP/a/config/keys/web.key" --vm web # asks no list, which may lag
mount_host a
generation=$(told a generation)
ask_point a "the beginning"
freeze a web
copy_host a
thaw
aged=$host
read -ra parts <<<"$PARTS"
for round in $(seq $((${#parts[@]} > 0 ? ROUNDS : 0))); do
    if [ "$round" -eq 2 ]; then # from now on in any order, and beside a processor
        haunt "$SEED" &
        ghost=$!
        PIDS+=($ghost)
    fi
    for n in "${!parts[@]}"; do
        [ "$round" -eq 1 ] || n=$((RANDOM % ${#parts[@]}))
        say "round $round: ${parts[n]//_/ }"
        ${parts[n]}
    done
done
touch "$TMP/enough"
[ -z "$ghost" ] || wait "$ghost"
if [ -n "$PARTS" ]; then
    say "a copy of long ago"
    mount_host "$aged"
    lose "$aged" "$aged is of long ago"
    fenced "$aged"
fi

say "processors are killed at random moments"
"$ORACLE" write "$TMP/log" 3600 4 "$SEED" "$TMP/src-$live/data.img" >/dev/null &
writer=$!
PIDS+=($writer)
for _ in $(seq "$ROUNDS"); do processors "$POINTS"; done
[ ${#outcasts[@]} -eq 0 ] || outcasts_end
touch "$TMP/log.stop"
wait $writer
ask_point "$live" "the end"
say "every point is good"
points_are_good
unmount_host "$live" --wait
say "passed: $(wc -l <"$TMP/asked") points asked for, $hosts copies of the host"
