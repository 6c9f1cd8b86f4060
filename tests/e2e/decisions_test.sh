#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Decisions that meet trouble: two target hosts race for one failover; two commands of one host want
# to act at once; a planned failover stops the source and cannot go on; one that died is not carried
# out long after another one was made; the target host is lost in the middle, and comes back. The
# source is mounted where no setting says.
. "$(dirname "$0")/lib.sh" "$@"
counting_hosts a b c
enable_vm web 16M os >/dev/null
mount_vm web
A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
for host in b c; do
    on $host "$FARSHORE" join "$TARGET" --key "$TMP/a/config/keys/web.key" >/dev/null
    on $host "$FARSHORE" set web start="$TMP/start-$host" stop="$TMP/stop-$host" >/dev/null
done
start_counter a web "$TMP/src"
wait_for 20 counts a-web 20
runs_on() { counter_runs "$1-web" && counts "$1-web"; }
alone_on() { # HOST
    wait_for 30 runs_on "$1"
    [ ! -e "$TMP/twice" ] || fail "$(cat "$TMP/twice")"
}
point() { A point web --wait >/dev/null; }
job_state() { B jobs web --json | jq -r --arg id "$1" '.jobs[] | select(.id == $id).state'; }

say "two target hosts race for one failover: one has it, and the other is told which"
agent a
for round in 1 2; do
    point
    stop_counter a web
    last=$(acked a-web)
    B failover web --host b >"$TMP/out-b" 2>"$TMP/err-b" & racer=$!
    first=b second=c got_c=0
    C failover web --host c >"$TMP/out-c" 2>"$TMP/err-c" || got_c=$?
    got_b=0
    wait $racer || got_b=$?
    [ $got_b -ne 0 ] || first=b second=c
    [ $got_c -ne 0 ] || first=c second=b
    [ $((got_b == 0)) -ne $((got_c == 0)) ] || { cat "$TMP"/err-[bc]; fail "not one of them: $got_b $got_c"; }
    echo "   round $round: $first; $(tail -1 "$TMP/err-$second")"
    tail -1 "$TMP/err-$second" | says "host $first" || fail "$second is not told of $first"
    alone_on $first
    [ ! -e "$TMP/pid-$second-web" ] || fail "it was started on $second too"
    on $first "$FARSHORE" cancel web >/dev/null
    alone_on a
    [ "$(found a-web)" -ge "$last" ] || fail "acknowledged $last, found $(found a-web)"
done

say "a command waits while another one of its host acts; a drill from before the failover stays until its cleanup"
point
B test-failover web --host b >/dev/null 2>&1
stop_counter a web
mkdir -p "$TMP/b/run"
exec 9>"$TMP/b/run/web.turn"
flock 9
B failover web --host b >"$TMP/out-b" 2>&1 9>&- & waits=$!
sleep 3
! runs_on b || fail "it did not wait"
kill -0 $waits || fail "it gave up: $(tail -1 "$TMP/out-b")"
exec 9>&-
wait $waits || fail "$(tail -1 "$TMP/out-b")"
alone_on b
B cancel web >/dev/null
alone_on a
[ "$(state B)" = test-running ] || fail "state $(state B), with a drill left"
expect_exit 2 'test-running' B failover web --host b --planned
B cleanup web >/dev/null
[ "$(state B)" = none ] || fail "state $(state B)"

say "a planned failover that cannot go on is given again, or cancelled"
stop_short() { # nothing reaches the cache store from b
    point
    last=$(acked a-web)
    sed -i "s|file://$TMP/cache|file://$TMP/nowhere|" "$TMP/b/config/vms/web.json"
    expect_lines 3 'shut down, and not failed over' B failover web --host b --planned
    sed -i "s|file://$TMP/nowhere|file://$TMP/cache|" "$TMP/b/config/vms/web.json"
    ! runs_on a || fail "the source was not stopped"
    [ "$(state B)" = none ] || fail "state $(state B)"
    B status web | says 'planned failover to b was begun' || fail "status says nothing of it"
    expect_lines 2 'to host b was begun' C failover web --planned --host c
}
expect_lines() { # as expect_exit, behind lines of progress
    local got=0
    "${@:3}" >"$TMP/out" 2>"$TMP/err" || got=$?
    [ "$got" -eq "$1" ] && tail -1 "$TMP/err" | says -- "$2" || { cat "$TMP/err"; fail "exit $got: ${*:3}"; }
}
stop_short
B failover web --host b --planned >/dev/null 2>&1
alone_on b
took_over a-web b-web
B cancel web >/dev/null
alone_on a
stop_short
C cancel web >/dev/null
alone_on a
[ "$(found a-web)" -ge "$last" ] || fail "acknowledged $last, found $(found a-web)"
wait_for 20 resumed C
C cancel web >/dev/null || fail "a cancel given again"
[ "$(state B)" = none ] || fail "state $(state B)"
wait_for 20 point

say "one that died is not carried out when others were made since"
cc -O2 -shared -fPIC -std=c17 -o "$TMP/kill_step.so" "$SOURCE/tests/e2e/kill_step.c"
echo 1 >"$TMP/armed"
b env LD_PRELOAD="$TMP/kill_step.so" KILL_VERB=failover KILL_ARMED="$TMP/armed" "$FARSHORE" failover web --host b \
    >/dev/null 2>&1 && fail "it was not killed"
died=$(B jobs web --json | jq -r '.jobs[0].id')
stop_counter a web
B failover web --host b >/dev/null 2>&1
B cancel web >/dev/null 2>&1
alone_on a
agent b
settled() { [ "$(job_state "$died")" = cancelled ]; }
wait_for 20 settled
[ "$(state B)" = none ] || fail "the agent failed over again: $(state B)"
alone_on a
kill "$agent_b"
wait "$agent_b" || true

say "the target host is lost after the failover: cancelled without it"
point
stop_counter a web
last=$(acked a-web)
B test-failover web --host b >/dev/null 2>&1
B failover web --host b >/dev/null 2>&1
alone_on b
kill_host b web "$(cat "$TMP/pid-b-web")" "$(cat "$TMP/pid-b-web-test")"
umount -l "$TMP/b/state/mounts/web" "$TMP/b/state/tests/web/1/mount" || true
C cancel web --force >/dev/null 2>&1
alone_on a
[ "$(found a-web)" -ge "$last" ] || fail "acknowledged $last, found $(found a-web)"

say "and so is the drill that ran there: what is left of it is said"
expect_exit 3 'no drill 2' C cleanup web --force --test 2
C cleanup web --force >"$TMP/out" 2>/dev/null || fail "cleanup --force"
grep -q "left 1 .*on host b .*$TMP/b/state/tests/web/1/mount.*hold-test-1-" "$TMP/out" || fail "$(cat "$TMP/out")"
[ "$(state C)" = none ] || fail "state $(state C)"

say "and comes back: what it has of the VM is removed, and it is a target again"
agent b
rm "$TMP/target/web/pins/"hold-test-1-*
removed() {
    [ "$(B status web --json | jq -r '.vms[0].role')" = target ] &&
        [ -z "$(find "$TMP/b/state/disks" -type f)" ]
}
wait_for 30 removed
[ -z "$(ls "$TMP/target/web/pins" 2>/dev/null)" ] || fail "holds of points are left: $(ls "$TMP/target/web/pins")"
alone_on a
[ "$(B test-failover web --host b --json 2>/dev/null | jq -r .test)" = 2 ] || fail "a drill where one is left"
B cleanup web >/dev/null 2>&1
B failover web --host b --planned >/dev/null 2>&1
alone_on b
took_over a-web b-web
stop_counter b web
