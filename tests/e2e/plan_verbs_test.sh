#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A plan over real failovers: two hosts as two config roots, each with an agent, and three VMs whose
# start and stop commands run a counter. A drill of all, a planned run with a script and a pause, a
# run killed with a verb in it, a VM that fails, commit and reprotect, and back without the source.
. "$(dirname "$0")/lib.sh" "$@"
counting_hosts a b
all_are() { # HOST STATE
    for vm in db web mail; do [ "$(state "$1" $vm)" = "$2" ] || fail "$vm is $(state "$1" $vm)"; done
}
forget_order() { : >"$TMP/order"; }
plan() { # HOST ARGUMENT...: must succeed
    local host=$1
    shift
    "$host" plan "$@" >"$TMP/out" 2>"$TMP/err" || { cat "$TMP/out" "$TMP/err"; fail "plan $*"; }
}

say "three VMs on a, joined on b"
agent a
agent b
for vm in db web mail; do
    truncate -s 16M "$TMP/$vm.raw"
    A enable $vm --disk os="$TMP/$vm.raw" --cache "$CACHE" --target "$TARGET" >/dev/null
    A set $vm start="$TMP/start-a" stop="$TMP/stop-a" mount="$TMP/src-$vm" >/dev/null
    mkdir -p "$TMP/src-$vm"
    A mount $vm "$TMP/src-$vm"
    join_vm $vm >/dev/null
    B set $vm start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
    start_counter a $vm "$TMP/src-$vm"
done
for vm in db web mail; do
    wait_for 20 counts a-$vm 10
    A point $vm --wait=target >/dev/null
done
B plan create all --group db --script "echo \$FARSHORE_PLAN_MODE >>$TMP/script" \
    --pause 'does db answer?' --group web,mail >/dev/null

say "a drill of all, and its cleanup, last group first"
forget_order
plan B run all --test
grep -q 'paused: does db answer?' "$TMP/out" || fail "$(cat "$TMP/out")"
wait_for 20 counts b-db-test
[ "$(cat "$TMP/order")" = b-db-test ] || fail "the pause did not hold: $(cat "$TMP/order")"
plan B continue all
all_are B test-running
[ "$(head -1 "$TMP/order")" = b-db-test ] || fail "$(cat "$TMP/order")"
plan B run all --cleanup
all_are B none
[ "$(cat "$TMP/script")" = test ] || fail "the cleanup ran the script"
[ -z "$(ls "$TMP/b/state/tests/"*/ 2>/dev/null | grep -v :)" ] || fail "a drill left its folder"

say "a drill that is killed goes on and is not made twice; but for one whose process is killed too"
touch "$TMP/hold-b-web-test"
touch "$TMP/hold-b-mail-test"
B plan create two --group db --group web --group mail >/dev/null
b exec "$FARSHORE" plan run two --test >/dev/null 2>&1 &
runner=$!
PIDS+=("$runner")
row() { jq -r ".rows[$1].$2" "$TMP/b/state/plans/two.json" 2>/dev/null; }
runs() { [ "$(row "$1" state)" = running ] && [ "$(row "$1" pid)" != 0 ]; }
wait_for 30 runs 1
kill -KILL "$runner"
wait "$runner" || true # its lock is gone
(sleep 0.5; rm "$TMP/hold-b-web-test") &
b exec "$FARSHORE" plan run two --resume >/dev/null 2>&1 &
runner=$!
PIDS+=("$runner")
wait_for 30 runs 2
wait_for 30 pgrep -f "$TMP/start-b" >/dev/null
kill -KILL "$runner" "$(row 2 pid)" # half a drill is none
wait "$runner" || true
rm "$TMP/hold-b-mail-test"
plan B run two --resume
all_are B test-running
for vm in db web; do
    [ "$(ls "$TMP/b/state/tests/$vm" | wc -l)" -eq 1 ] || fail "two drills of $vm"
done
[ "$(B plan report two --json | jq -c '[.rows[].attempts]')" = '[1,1,2]' ] ||
    fail "what an orphan had done was done again, or what it had not was not: $(B plan report two)"
plan B run two --cleanup

say "planned: a VM that fails is named, nothing behind it is begun, and the rest goes on"
forget_order
B plan create go --group db --script true --group web --group mail >/dev/null
touch "$TMP/fail-b-web"
B plan run go --planned >"$TMP/out" 2>"$TMP/err" && fail "it did not fail"
tail -1 "$TMP/err" | says 'stopped at step 3: web: ' || fail "$(cat "$TMP/err")"
tail -1 "$TMP/err" | says 'no room for b-web' || fail "the reason is lost: $(cat "$TMP/err")"
[ "$(cat "$TMP/order")" = b-db ] || fail "$(cat "$TMP/order")"
counts a-mail 0 && [ "$(state B mail)" = none ] || fail "mail was failed over"
rm "$TMP/fail-b-web"
plan B run go --resume
all_are B failed-over
for vm in db web mail; do
    wait_for 20 counts b-$vm "$(acked a-$vm)"
    took_over a-$vm b-$vm
done
[ "$(cat "$TMP/order")" = $'b-db\nb-web\nb-mail' ] || fail "$(cat "$TMP/order")"

say "the report has times per step"
B plan report go --json >"$TMP/report"
jq -e '.state == "done" and ([.rows[] | .ended_ms > .began_ms] | all) and .rto_ms <= .took_ms' "$TMP/report" \
    >/dev/null || fail "$(cat "$TMP/report")"
B plan report go | says 'measured RTO' || fail "$(B plan report go)"

say "commit and reprotect"
plan B run go --commit
all_are B committed
plan B run go --reprotect
all_are B none

say "back without its source: the run killed with the verb in it, and resumed"
for vm in db web mail; do B point $vm --wait=target >/dev/null; done
kill -KILL "$agent_b"
for vm in db web mail; do
    kill_host b $vm "$(cat "$TMP/pid-b-$vm")"
    umount -l "$TMP/b/state/mounts/$vm" || true
done
forget_order
A plan create home --group db,web --group mail >/dev/null
touch "$TMP/hold-a-web"
a exec "$FARSHORE" plan run home --unplanned >/dev/null 2>&1 &
runner=$!
PIDS+=("$runner")
started() { grep -qx a-db "$TMP/order" && pgrep -f "failover web" >/dev/null; }
wait_for 30 started
held() { pgrep -f "$TMP/start-a" >/dev/null; }
wait_for 30 held
verb=$(jq -r '.rows[] | select(.vm == "web") | .pid' "$TMP/a/state/plans/home.json")
kill -KILL "$runner" "$verb"
wait "$runner" || true
rm "$TMP/hold-a-web"
plan A run home --resume
all_are A failing-back
for vm in db web mail; do wait_for 20 counts a-$vm; done
[ "$(sort "$TMP/order" | uniq -c | awk '$1 > 2' | wc -l)" -eq 0 ] || fail "$(cat "$TMP/order")"
plan A run home --commit
all_are A committed
for vm in db web mail; do stop_counter a $vm; done
say "done"
