#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The whole round without libvirt: two hosts as two config roots, each with an agent, and a VM whose
# start and stop commands run a counter on its disk. Test failover, unplanned failover with the
# source killed, change of point, commit, reprotect, planned failback, twice around; revert; cancel.
. "$(dirname "$0")/lib.sh" "$@"

say "enable on a, join on b"
counting_web 64M
agent a
agent b
A point web --wait=target >/dev/null

say "validate: what would be in the way is found before, and by itself"
has_validated() { B status web | says 'validated 20'; }
wait_for 10 has_validated
B validate web | says 'would work' || fail "validate finds something"
B set web stop= >/dev/null
expect_exit 1 '1 thing in the way' B validate web
grep -q 'ERROR .*set web stop=COMMAND' "$TMP/out" || { cat "$TMP/out"; fail "no way on is said"; }
expect_exit 2 'stop=COMMAND' B test-failover web
[ "$(state B)" = none ] || fail "a drill that was refused left state $(state B)"
B set web stop="$TMP/stop-b" >/dev/null
A point web --wait=target >/dev/null
A pause web >/dev/null
segment=$(find "$TMP/target/web/segments" -type f -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2)
cp "$segment" "$TMP/segment"
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=$(($(stat -c %s "$segment") / 2)) conv=notrunc status=none
newest=$(B points web --json | jq -r '.points[-1].id')
! B verify web --point "$newest" >/dev/null 2>&1 || fail "the damage is not in the newest point"
B validate web | says 'newer points than that of .* are damaged' || fail "validate does not tell of the damage"
cp "$TMP/segment" "$segment"
B verify web --point "$newest" >/dev/null
A resume web >/dev/null

say "test failover, while the source goes on"
before=$(acked a-web)
B test-failover web --json >"$TMP/test.json"
wait_for 20 counts b-web-test
[ "$(state B)" = test-running ] || fail "state $(state B)"
[ "$(found b-web-test)" -ge 20 ] || fail "the drill found $(found b-web-test) records"
wait_for 20 counts a-web "$before"
expect_exit 2 'test-running' B commit web
B cleanup web --note fine >/dev/null
[ "$(state B)" = none ] || fail "state $(state B) after cleanup"
[ ! -e "$TMP/b/state/tests/web/1" ] || fail "the drill left its folder"
[ -z "$(ls "$TMP/b/state/scratch" 2>/dev/null)" ] || fail "the drill left overlays"
B test-failover web >/dev/null # one that is left, as in an emergency
wait_for 20 counts b-web-test

say "unplanned failover, the source killed"
A point web --wait=target >/dev/null
kill_host a web "$agent_a" "$(cat "$TMP/pid-a-web")"
umount -l "$TMP/src" || true
last=$(acked a-web)
B failover web --json >"$TMP/failover.json"
wait_for 20 counts b-web
got=$(found b-web)
echo "acknowledged $last, found $got, $(jq -c '{lost_seconds, rto_ms}' "$TMP/failover.json")"
[ "$got" -le "$last" ] || fail "more than was acknowledged"
[ "$(state B)" = failed-over ] || fail "state $(state B)"

say "another point, then hydrated, then the commit"
earlier=$(B points web --json | jq -r '.points[0].id')
expect_exit 2 'failed-over' B reprotect web
B change-point web "$earlier" >/dev/null
wait_for 20 counts b-web
[ "$(found b-web)" -le "$got" ] || fail "the earlier point has $(found b-web) records, the later had $got"
B commit web >/dev/null
[ "$(state B)" = committed ] || fail "state $(state B)"
expect_exit 2 'committed' B change-point web "$earlier"
# The worker says so, and from then on the settings name no origin: nothing is read far away.
wait_for 30 hydrated b
[ "$(B status web --json | jq -r '.vms[0].hydration')" = complete ] || fail "it is not hydrated"

say "the target host restarts: its agent mounts and starts what was failed over to it"
kill "$agent_b"
wait "$agent_b" || true
kill_host b web "$(cat "$TMP/pid-b-web")"
umount -l "$TMP/b/state/mounts/web" || true
before=$(acked b-web)
touch "$TMP/fail-b-web" # at first it cannot
agent b
wait_for 20 grep -q 'job boot ended: exit' "$TMP/agent-b.log"
rm "$TMP/fail-b-web"
wait_for 60 counts b-web "$before"
[ "$(found b-web)" -ge "$before" ] || fail "acknowledged $before, found $(found b-web) after the restart"

say "the old source comes back, and is fenced"
expect_exit 4 'failed over to b' A mount web "$TMP/src"
A mount web "$TMP/src" --force # then its log says so, too
fenced() { [ "$(A status web --json | jq -r '.vms[0].state')" = fenced ]; }
wait_for 20 fenced
A unmount "$TMP/src" 2>/dev/null
agent a
moved() { [ -e "$TMP/a/state/vms/web/moved" ]; }
wait_for 10 moved
expect_exit 4 'to b' A mount web "$TMP/src"

say "reprotect: what is on the old disk need not cross"
B reprotect web --json >"$TMP/reprotect.json"
[ "$(state B)" = test-running ] || fail "state $(state B) after reprotect, with a drill left"
grep -q 'protected from there' "$TMP/a/state/vms/web/moved" || fail "its disks were read without a fence of its own"
wait_for 20 counts b-web
expect_exit 4 'to b' A mount web "$TMP/src"

say "the drill of before the failover is cleaned up, though its point is in the vault that was left"
expect_exit 2 'test-running' A failover web --planned
B cleanup web >/dev/null
[ "$(state B)" = none ] || fail "state $(state B) after cleanup"
[ ! -e "$TMP/pid-b-web-test" ] || fail "the drill's machine runs on"
[ ! -e "$TMP/b/state/tests/web/1" ] && [ -z "$(ls "$TMP/b/state/scratch")" ] || fail "the drill left something here"
[ -z "$(find "$TMP" -xdev -path '*/pins/hold-test-*')" ] || fail "its hold is left"

say "planned failback: nothing is lost"
A failover web --planned --json >"$TMP/failback.json"
wait_for 20 counts a-web
took_over b-web a-web
[ "$(jq .lost_seconds "$TMP/failback.json")" = 0 ] || fail "lost seconds in a planned failover"
[ "$(state A)" = failing-back ] || fail "state $(state A)"
A commit web >/dev/null
A reprotect web >/dev/null
[ "$(state A)" = none ] || fail "state $(state A)"

say "once more around, and back into the same two vaults"
B failover web --planned >/dev/null
wait_for 20 counts b-web "$(acked a-web)"
took_over a-web b-web
grep -q 'planned failover' "$TMP/a/state/vms/web/moved" || fail "its host may mount it again when no vault can be asked"
B commit web >/dev/null
B reprotect web >/dev/null

say "a failback is cancelled: what was protected is so, and host b boots its VM still"
A failover web --planned >/dev/null
A cancel web >/dev/null
resumed() { B jobs web --json | jq -e '[.jobs[] | select(.verb == "resume-source")][0].state == "done"' >/dev/null; }
wait_for 20 resumed
B reprotect web >/dev/null || fail "a reprotect given again"
B point web --wait=target >/dev/null
kill "$agent_b"
wait "$agent_b" || true
kill_host b web "$(cat "$TMP/pid-b-web")"
umount -l "$TMP/b/state/mounts/web" || true
before=$(acked b-web)
agent b
wait_for 20 counts b-web "$before"

say "and goes home then"
A failover web --planned >/dev/null
wait_for 20 counts a-web "$(acked b-web)"
took_over b-web a-web
A commit web >/dev/null
A reprotect web >/dev/null
[ "$(ls "$TMP/target" | grep -c '^web$')" -eq 1 ] || fail "more than one vault near b"
B points web --json | jq -r '.points[].id' | says "$earlier" || fail "the first history is gone"

say "a failover is cancelled, and the old source goes on"
B failover web --planned >/dev/null
wait_for 20 counts b-web "$(acked a-web)"
last=$(acked a-web)
B cancel web >/dev/null
wait_for 30 counts a-web "$last"
[ "$(found a-web)" -ge "$last" ] && [ "$(found a-web)" -le $((last + 1)) ] ||
    fail "acknowledged $last, after the cancel found $(found a-web)"
[ "$(state B)" = none ] || fail "state $(state B) after cancel"
A point web --wait=target >/dev/null

say "revert: back in place, the present kept as a branch"
A point web --label before --wait=target >/dev/null
point=$(B points web --json | jq -r '.points[-1].id')
sleep 0.5
last=$(acked a-web)
resyncs() { grep -c ' resync: ' "$TMP/a/state/vms/web/mount.log" || true; }
before=$(resyncs)
A revert web --point "$point" >/dev/null
wait_for 20 counts a-web 1
[ "$(resyncs)" -eq "$before" ] || fail "all of it is compared, though the new disks hold nothing yet"
[ "$(found a-web)" -le "$last" ] || fail "nothing was reverted"
A points web --branch --json | jq -e '.points | length > 0' >/dev/null || fail "no branch"
A point web --wait=target >/dev/null
stop_counter a web
