#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No worker can start any more: the program was replaced by one that ends at once. For a minute
# requests wait and `status` says why; then they fail, and nothing is left of the mount. With a
# program that works it is mounted again, and holds all that was acknowledged. Then one that takes up
# new settings starts without an end: that is seen after a minute, and ends a minute later. Takes these
# minutes, so it belongs to tools/long.sh.
. "$(dirname "$0")/lib.sh" "$@"

enable_vm gone 8M a
mkdir "$TMP/src" "$TMP/bin"
cp "$FARSHORE" "$TMP/bin/farshore"
a "$TMP/bin/farshore" mount gone "$TMP/src"
"$ORACLE" write "$TMP/log" 600 4 "${SEED:-$RANDOM}" "$TMP/src/a.img" 2>"$TMP/oracle.err" & writer=$!
sleep 1
printf '#!/bin/sh\nexit 1\n' >"$TMP/bin/new"
chmod +x "$TMP/bin/new"
mv "$TMP/bin/new" "$TMP/bin/farshore"
say "the last worker dies"
kill -KILL "$(A status gone --json | jq '.vms[0].worker_pid')"
status=$(A status gone --json)
[ "$(jq -r '.vms[0].state' <<<"$status")" = stalled ] || fail "$status"
jq -r '.vms[0].reason' <<<"$status" | says 'worker does not answer' || fail "$status"
expect_exit 3 'see the log' A point gone --wait --timeout 1
kill -0 "$writer" || fail "requests failed at once: $(cat "$TMP/oracle.err")"
! wait "$writer" || fail "the writer saw no error"
say "the mount was ended"
nothing_is_left() {
    ! mountpoint -q "$TMP/src" && [ -z "$(ours farshore-keeper)$(ours farshore-worker 'worker gone')" ]
}
wait_for 30 nothing_is_left
grep -q 'no worker could start for 60 s: ending the mount' "$TMP/a/state/vms/gone/mount.log" ||
    fail "the log does not say so"
[ "$(A status gone --json | jq -r '.vms[0].state')" = not-mounted ] || fail "$(A status gone)"
mount_vm gone
"$ORACLE" check "$TMP/log" "$(date +%s%3N)" "$TMP/src/a.img"
A point gone --wait --timeout 60

say "the next worker waits for ever, when it becomes one"
exec 8<"$TMP/disks/a.raw"
flock -x 8 & PIDS+=($!) # has it, and keeps it here, when the worker lets go
sleep 1
A disk gone grow a 16M >/dev/null 2>&1 8<&- & PIDS+=($!) # which makes the worker the next one
sleep 2
begun=$SECONDS
! timeout -s KILL 300 dd if=/dev/zero of="$TMP/src/a.img" bs=4k count=1 conv=notrunc,fsync status=none 2>"$TMP/err" 8<&- || fail "it is written"
[ $((SECONDS - begun)) -lt 250 ] || fail "the guest hangs"
wait_for 30 nothing_is_left
grep -q 'Alarm clock' "$TMP/a/state/vms/gone/mount.log" || fail "the log does not say so"
exec 8<&-
mount_vm gone
A unmount "$TMP/src" --wait
say "passed"
