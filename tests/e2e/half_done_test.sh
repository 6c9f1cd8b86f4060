#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What was begun and is not done is not taken for something else: a revert that broke off, a host whose
# failover was cancelled while it was away, a disk that is not whole yet, a way back whose host is away.
. "$(dirname "$0")/lib.sh" "$@"
INVALID=2 FENCED=4 BUSY=8
counting_web 64M
agent a
agent b

say "a revert that breaks off: nothing is mounted by mistake, it goes on to the point of its beginning"
first=$(A point web --wait=target)
wait_for 20 counts a-web $(($(acked a-web) + 50))
second=$(A point web --wait=target)
last=$(acked a-web)
touch "$TMP/a/state/disks" # where the new files were to be
! A revert web --point "$first" >"$TMP/out" 2>"$TMP/err" || fail "there is no room for its disks, and it is done"
expect_exit $FENCED "farshore revert web --point $first" A mount web "$TMP/src"
A mount web "$TMP/src" --force >/dev/null
rm "$TMP/a/state/disks"
expect_exit $INVALID "a revert of web to $first was begun" A revert web --point "$second"
expect_exit $BUSY "farshore unmount" A revert web --point "$first"
A unmount "$TMP/src" >/dev/null 2>&1
A revert web --point "$first" >/dev/null 2>&1
wait_for 20 counts a-web 1
[ "$(found a-web)" -lt "$last" ] || fail "nothing was reverted"
A point web --wait=target >/dev/null

say "its host dies when the new disks are in use already: what was written to them is in the next point"
A set web cut_interval=3600 >/dev/null
image=$TMP/a/state/mounts/web/os.img
stop_counter a web
touch "$TMP/hold-a-web" # the start takes its time
A revert web --point "$first" >"$TMP/revert.out" 2>&1 & reverting=$!
starting() { pgrep -f "$TMP/start-a" >/dev/null; }
wait_for 30 starting
head -c 1M /dev/urandom >"$TMP/data"
dd if="$TMP/data" of="$image" bs=1M seek=32 conv=notrunc,fsync status=none
kill_host a web "$agent_a" "$reverting" $(pgrep -f "$TMP/start-a")
wait "$reverting" || true # what it had mounted stands there, dead
rm "$TMP/hold-a-web"
A revert web --point "$first" >/dev/null 2>&1
wait_for 20 counts a-web 1
stop_counter a web
A point web --wait=target >/dev/null
mkdir "$TMP/rec"
B recover "$TMP/rec" --vm web
cmp "$TMP/data" <(dd if="$TMP/rec/web/latest/os.img" bs=1M skip=32 count=1 status=none) || fail "acknowledged data is in no point"
cmp "$image" "$TMP/rec/web/latest/os.img" || fail "the point is not the disk"
umount "$TMP/rec"
agent a
A set web cut_interval=5 >/dev/null
start_counter a web "$TMP/a/state/mounts/web"
wait_for 20 counts a-web 1

say "a shutdown that a killed command asked for comes late: it does not undo the one that was done"
kill "$agent_a" "$agent_b"
wait "$agent_a" "$agent_b" || true
moved=$TMP/a/state/vms/web/moved
planned() { on b exec "$FARSHORE" failover web --planned; }
old_job() { A jobs web --json | jq -re '.jobs[] | select(.verb == "shutdown" and .state == "waiting").id'; }
planned >/dev/null 2>&1 & first=$!
wait_for 20 old_job >/dev/null
kill -KILL "$first"
wait "$first" || true
old=$(old_job)
mv "$TMP/target/web/jobs/$old" "$TMP/late"
planned >/dev/null 2>&1 & second=$!
wait_for 20 old_job >/dev/null
kill -STOP "$second" # between the shutdown and what it is for
agent a
wait_for 30 test -e "$moved"
mv "$TMP/late" "$TMP/target/web/jobs/$old"
old_is() { [ "$(A jobs web --json | jq -r --arg id "$old" '.jobs[] | select(.id == $id).state')" = "$1" ]; }
wait_for 20 old_is cancelled # the second may begin any moment
kill -CONT "$second"
wait "$second" || fail "the planned failover is not done"
[ -e "$moved" ] || fail "the source is not fenced any more"
! mountpoint -q "$TMP/a/state/mounts/web" || fail "the source is mounted again"
agent b

say "cancelled while its host was away: that one mounts nothing when it is back"
generation() { jq -c .generation "$TMP/a/config/vms/web.json"; }
# In the generation of the cancel.
ships() { [ "$(generation)" != "$was" ] && [ "$(A status web --json | jq -r '.vms[0].state')" = protected ]; }
was=$(generation)
wait_for 20 counts b-web 5
kill_host b web "$agent_b" "$(cat "$TMP/pid-b-web")"
umount -l "$TMP/b/state/mounts/web"
rm "$TMP/pid-b-web"
A cancel web --force >/dev/null 2>&1
wait_for 30 counts a-web 5
expect_exit $FENCED 'must not run here too' B mount web "$TMP/b/state/mounts/web"
agent b
gone() { [ "$(jq -r .role "$TMP/b/config/vms/web.json")" = target ]; }
wait_for 30 gone
wait_for 30 ships
say "a source that hung through failover and cancel ships once its state is that of the cancel"
kill "$agent_a"
wait "$agent_a" || true
faulty agent a
A point web --wait=target >/dev/null
spoil fdatasync hold 1 -1 "$TMP/a/state/vms/web/os.digests.filling" # while its new state is made
was=$(generation)
freeze a web
B failover web >/dev/null 2>&1
wait_for 20 counts b-web 5
B cancel web >/dev/null 2>&1
sleep 1
thaw
wait_for 60 test -e "$TMP/faulty/held"
sleep 4 # a worker that still shipped would meet its fence
rm "$TMP/faulty/held"
wait_for 40 ships
wait_for 40 resumed A # it has started the counter by then
stop_counter a web
A point web --wait=target >/dev/null
B recover "$TMP/rec" --vm web
cmp "$TMP/a/state/mounts/web/os.img" "$TMP/rec/web/latest/os.img" || fail "the point is not the disk"
umount "$TMP/rec"
say "a disk that is not whole yet is not given up for one"
dd if=<(head -c 8M /dev/urandom) of="$TMP/a/state/mounts/web/os.img" bs=1M seek=40 iflag=fullblock conv=notrunc,fsync status=none
A point web --wait=target >/dev/null
dd if="$TMP/a/state/mounts/web/os.img" of="$TMP/data" bs=1M skip=40 count=8 status=none
mkdir "$TMP/away" # what hydration is to read
find "$TMP/target/web/segments" -type f -size +1M -exec mv -t "$TMP/away" {} +
[ -n "$(ls "$TMP/away")" ] || fail "no large object to take away"
B set web start=true stop=true >/dev/null # what runs there would wait for those
B failover web >/dev/null 2>&1
B commit web >/dev/null 2>&1
expect_exit $FENCED 'must not run here too' A mount web "$TMP/src"
expect_exit $BUSY 'farshore unmount' A join "$TARGET" --key "$key" # whose VM has left it: it may be a target
A unmount "$TMP/a/state/mounts/web" --timeout 1 >/dev/null 2>&1 || true
A join "$TARGET" --key "$key" >/dev/null
[ "$(jq -r '.role + .start' "$TMP/a/config/vms/web.json")" = "target$TMP/start-a" ] || fail "$(cat "$TMP/a/config/vms/web.json")"
expect_exit $BUSY 'runs on host b' A disable web --purge --yes web # which still reads the vault
B unmount "$TMP/b/state/mounts/web" >/dev/null
expect_exit $BUSY 'not hydrated yet' B disable web
mv "$TMP/away"/* "$TMP/target/web/segments"
B mount web "$TMP/b/state/mounts/web"
whole() { [ "$(B status web --json | jq '.vms[0].hydration_blocks_left // 0')" = 0 ] && ! jq -e .origin "$TMP/b/config/vms/web.json" >/dev/null; }
wait_for 60 whole
B unmount "$TMP/b/state/mounts/web" >/dev/null
expect_exit $BUSY 'runs on host b' A disable web --purge --yes web
disk=$(jq -r '.disks[0].path' "$TMP/b/config/vms/web.json")
B disable web >/dev/null
cmp "$TMP/data" <(dd if="$disk" bs=1M skip=40 count=8 status=none) || fail "the disk that is kept lacks what the VM had"
kill "$agent_a" "$agent_b" # they would write for a moment longer
wait "$agent_a" "$agent_b" || true
A disable web --purge --yes web --force >/dev/null
[ -z "$(find "$TMP/target" -path '*/web/*' -type f)" ] || fail "the forced purge leaves objects behind"
say "passed"
