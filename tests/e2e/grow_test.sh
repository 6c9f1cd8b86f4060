#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Disks grow while they are written, one below a file system on a loop device; workers, the keeper
# and the command itself are killed meanwhile. Nobody sees an error, what is new is zeros and is
# replicated, older points keep their size, and a disk never shrinks.
. "$(dirname "$0")/lib.sh" "$@"

: "${ROUNDS:=12}"
name_hosts a b
mkdir "$TMP/disks"
truncate -s 64M "$TMP"/disks/{os,data,wide}.raw
truncate -s 320M "$TMP/disks/fs.raw" # xfs takes no less
cp -r --sparse=always "$TMP/disks" "$TMP/before" # as large as they were
A enable web --disk os="$TMP/disks/os.raw" --disk data="$TMP/disks/data.raw" --disk fs="$TMP/disks/fs.raw" \
    --disk wide="$TMP/disks/wide.raw" --cache "$CACHE" --target "$TARGET"
mount_vm web --cut-interval 1
join_vm web >/dev/null
start_processor web "$TMP/process.log"
bytes() { stat -c %s "$1"; }
size() { echo $(($(bytes "$TMP/src/$1.img") >> 20)); } # DISK: MiB
status() { A status web --json | jq -r ".vms[0].$1"; }

say "written all the time"
loop=$(losetup --show -f --direct-io=on "$TMP/src/fs.img")
mkfs.xfs -q "$loop"
mkdir "$TMP/files"
mount "$loop" "$TMP/files"
"$ORACLE" write "$TMP/log" 600 4 "${SEED:-$RANDOM}" "$TMP/src/os.img" "$TMP/src/data.img" 2>"$TMP/oracle.err" & writer=$!
PIDS+=($writer)
sleep 2
old=$(A point web --wait=target --timeout 60)

say "smaller it does not become; more it takes only what it has"
expect_exit 2 'cannot shrink' A disk web grow os 32M
expect_exit 2 'cannot shrink' A disk web grow data 63M
expect_exit 3 'no disk other' A disk web grow other 96M
expect_exit 8 'unmount' A disk web remove data
! truncate -s 1G "$TMP/src/os.img" 2>/dev/null || fail "a guest may make its disk larger by itself"

say "the maps are laid out anew, and below a loop device"
restarts=$(status worker_restarts)
A disk web grow wide 20G | says 'losetup -c' || fail "nobody is told what comes next"
[ "$(size wide)" = 20480 ] || fail "the mount shows $(size wide) MiB"
[ "$(status worker_restarts)" -gt "$restarts" ] || fail "no other worker"
[ "$(status 'disks[3].size_bytes')" = $((20 << 30)) ] || fail "status shows $(status 'disks[3].size_bytes')"
head -c 1M /dev/urandom | dd of="$TMP/src/wide.img" bs=1M seek=20000 conv=notrunc oflag=direct status=none
busy=$(losetup --show -f --direct-io=on "$TMP/src/data.img") # the oracle writes it all the time
A disk web grow data 96M >/dev/null
losetup -c "$busy"
dd if="$busy" of="$TMP/new" bs=1M skip=64 iflag=direct status=none || fail "what is new of a busy disk cannot be read"
cmp -n $((32 << 20)) "$TMP/new" /dev/zero
losetup -d "$busy"
A disk web grow fs 512M >/dev/null
losetup -c "$loop"
xfs_growfs "$TMP/files" >/dev/null
head -c 360M /dev/urandom >"$TMP/files/large"
sync -f "$TMP/files"
large=$(sha256sum <"$TMP/files/large")

say "killed meanwhile: workers, the keeper, the command; what came last is written"
A disk web grow os 65M >/dev/null
newest=64
for ((i = 1; i <= ROUNDS; i++)); do
    worker=$(status worker_pid) keeper=$(status pid)
    [ $((i % 6)) -ne 2 ] || kill -KILL "$keeper"
    head -c 1M /dev/urandom >"$TMP/part-$i"
    dd if="$TMP/part-$i" of="$TMP/src/os.img" bs=64k seek=$((newest * 16)) oflag=direct conv=notrunc status=none & part=$!
    a exec "$FARSHORE" disk web grow os $((64 + i * 8))M >>"$TMP/grow.out" 2>&1 & grow=$!
    sleep 0.0$((RANDOM % 10))
    case $((i % 3)) in
    0) kill -KILL $grow 2>/dev/null || true ;;
    1) kill -KILL "$worker" 2>/dev/null || true ;;
    2) [ $((i % 6)) -eq 2 ] || kill -KILL "$keeper" ;;
    esac
    wait $grow || true
    wait $part || fail "round $i: who wrote what is new saw an error"
    A disk web grow os $((64 + i * 8))M >/dev/null # again, as one would
    [ "$(size os)" = $((64 + i * 8)) ] || fail "round $i: $(size os) MiB"
    cmp "$TMP/part-$i" <(dd if="$TMP/src/os.img" bs=1M skip=$newest count=1 status=none) || fail "round $i: what is new differs"
    newest=$((63 + i * 8))
done
kill -0 $writer || fail "the writer ended: $(cat "$TMP/oracle.err")"

say "mounted again, it is as large"
touch "$TMP/log.stop"
wait $writer || fail "the guest saw an error: $(cat "$TMP/oracle.err")"
umount "$TMP/files"
losetup -d "$loop"
new=$(A point web --wait=target --timeout 300)
A unmount "$TMP/src" --wait
mount_vm web
[ "$(size os)" = $((64 + ROUNDS * 8)) ] || fail "$(size os) MiB"
A unmount "$TMP/src" --wait

say "points: the old ones as large as they were, every one a cut, the last one the disk"
mkdir "$TMP/rec"
B recover "$TMP/rec" --vm web
for disk in os data fs wide; do
    [ "$(bytes "$TMP/rec/web/points/$old/$disk.img")" = "$(bytes "$TMP/before/$disk.raw")" ] ||
        fail "$disk grew in the old point"
    [ "$(bytes "$TMP/rec/web/points/$new/$disk.img")" = "$(bytes "$TMP/disks/$disk.raw")" ] ||
        fail "$disk did not grow in the new one"
    [ $disk = wide ] || cmp "$TMP/rec/web/points/$new/$disk.img" "$TMP/disks/$disk.raw"
done
for megabyte in 0 19990; do # where it was, and what is new, with zeros around
    cmp -i $((megabyte << 20)) -n $((64 << 20)) "$TMP/rec/web/points/$new/wide.img" "$TMP/disks/wide.raw" ||
        fail "they differ behind $megabyte MiB"
done
ORACLE_BLOCKS=$((64 << 8)) check_points web "$TMP/rec" "$TMP/log" os data
xfs_repair -n "$TMP/rec/web/points/$new/fs.img" >"$TMP/fsck.log" 2>&1 || fail "$(cat "$TMP/fsck.log")"
mount -o ro,loop,norecovery "$TMP/rec/web/points/$new/fs.img" "$TMP/files"
[ "$(sha256sum <"$TMP/files/large")" = "$large" ] || fail "the file is another"
umount "$TMP/files"
say "passed"
