#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Disks of an enabled VM that are grown, added and taken out: new points have them as they are, old
# points show what there was, and a failover takes those of its point.
. "$(dirname "$0")/lib.sh" "$@"

name_hosts a b
enable_vm web 64M os
mount_vm web
join_vm web
pattern() { head -c "$2" /dev/zero | tr '\0' "$1"; } # CHARACTER BYTES
pattern a 1000000 | dd of="$TMP/src/os.img" bs=1M conv=notrunc,fsync status=none
A point web --label first --wait >/dev/null
B process web --once >/dev/null
first=$(point_ids web | tail -1)

say "only when it is not mounted (grow_test.sh has what goes in use), and never smaller"
expect_exit 8 'unmount' A disk web remove os
A unmount "$TMP/src" --wait
expect_exit 2 'cannot shrink' A disk web grow os 32M
expect_exit 2 'size 1x' A disk web grow os 1x
expect_exit 3 'no disk data' A disk web grow data 96M
expect_exit 2 'only disk' A disk web remove os
expect_exit 2 'there are add' A disk web turn os

say "grown, and one added"
A disk web grow os 96M >/dev/null
truncate -s 32M "$TMP/disks/data.raw"
pattern d 500000 | dd of="$TMP/disks/data.raw" bs=1M conv=notrunc status=none
mkdir "$TMP/faulty"
spoil pread hold 1 0 "$TMP/disks/data.raw"
faulty A disk web add "data=$TMP/disks/data.raw" >/dev/null &
adder=$!
wait_for 20 test -e "$TMP/faulty/held"

say "what is set while a disk is added stays set, and what cannot be meanwhile is told why"
A set web cut_interval=77 >/dev/null || fail "set, while a disk is added"
expect_exit 8 'another command' A mount web "$TMP/src"
expect_exit 8 'another command' A disk web remove os
expect_exit 8 'another command' A point web
[ "$(A status web --json | jq -r '.vms[0].state')" = not-mounted ] || fail "$(A status web)"
rm "$TMP/faulty/held"
wait $adder || fail "the disk was not added"
[ "$(A set web | sed -n 's/cut_interval=//p')" = 77 ] || fail "undone: $(A set web)"
A set web cut_interval=5 >/dev/null
mount_vm web
[ "$(stat -c %s "$TMP/src/os.img")" -eq $((96 << 20)) ] || fail "the disk did not grow"
pattern b 1000000 | dd of="$TMP/src/os.img" bs=1M seek=90 conv=notrunc,fsync status=none
A point web --label second --wait >/dev/null
B process web --once >/dev/null
second=$(point_ids web | tail -1)
mkdir -p "$TMP/rec"
B recover "$TMP/rec"
cmp "$TMP/src/os.img" "$TMP/rec/web/points/$second/os.img"
cmp "$TMP/src/data.img" "$TMP/rec/web/points/$second/data.img"
[ "$(stat -c %s "$TMP/rec/web/points/$first/os.img")" -eq $((64 << 20)) ] || fail "the old point grew"
[ ! -e "$TMP/rec/web/points/$first/data.img" ] || fail "the old point has the new disk"

say "taken out, and another of its name shows nothing of it"
A unmount "$TMP/src" --wait
A disk web remove data >/dev/null
truncate -s 16M "$TMP/disks/other.raw"
A disk web add "data=$TMP/disks/other.raw" >/dev/null
mount_vm web
pattern e 4096 | dd of="$TMP/src/data.img" bs=4096 seek=100 conv=notrunc,fsync status=none
A point web --label third --wait >/dev/null
B process web --once >/dev/null
third=$(point_ids web | tail -1)
wait_for 20 test -e "$TMP/rec/web/points/$third/data.img"
cmp "$TMP/src/data.img" "$TMP/rec/web/points/$third/data.img"
[ "$(stat -c %s "$TMP/rec/web/points/$second/data.img")" -eq $((32 << 20)) ] || fail "the second point changed"

say "a failover takes the disks of its point"
cp "$TMP/src/os.img" "$TMP/os.was"
cp "$TMP/src/data.img" "$TMP/data.was"
B set web start="ls -l \$FARSHORE_DISK_OS \${FARSHORE_DISK_DATA:?}" stop=true >/dev/null
B failover web >/dev/null
cmp "$TMP/b/state/mounts/web/os.img" "$TMP/os.was"
cmp "$TMP/b/state/mounts/web/data.img" "$TMP/data.was"
B change-point web "$first" >/dev/null 2>"$TMP/change" && fail "a disk that was not there was found"
B set web start="ls -l \$FARSHORE_DISK_OS" >/dev/null
B change-point web "$first" >/dev/null
[ "$(ls "$TMP/b/state/mounts/web")" = os.img ] || fail "$(ls "$TMP/b/state/mounts/web")"
[ "$(stat -c %s "$TMP/b/state/mounts/web/os.img")" -eq $((64 << 20)) ] || fail "not as it was"
