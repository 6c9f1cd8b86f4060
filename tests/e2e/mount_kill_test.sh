#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Killing the mount's process under load is invisible (docs: promise 5): fio with verification sees
# no error while the worker is killed again and again, at queue depth 16 and by several threads, in
# blocks of 4 KiB to 1 MiB; a file system on a loop device above goes on and is clean afterwards.
# MOUNT_UNDER_TEST=farshore (the command) or plain (the mount alone, over plain files, by
# tests/fs/mount/mount_main.c). KILLS=20 sets how often.
. "$(dirname "$0")/lib.sh" "$@"
MOUNT_UNDER_TEST=${MOUNT_UNDER_TEST:-farshore}
KILLS=${KILLS:-20}
MAIN=$(dirname "$FARSHORE")/tests/mount_main
for tool in fio jq losetup mkfs.ext4; do
    command -v "$tool" >/dev/null || { echo "SKIP: no $tool here"; exit 77; }
done

# The processes of this test, by what their command line names.
ours() { # COMM
    local pid
    for pid in $(pgrep -x "$1"); do
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$TMP/" && echo "$pid"
    done
    return 0
}

cleanup() {
    local status=$? pid
    set +e
    touch "$TMP/stop"
    for pid in "${PIDS[@]}" $(ours fio); do kill "$pid" 2>/dev/null; done
    mountpoint -q "$TMP/fs" && umount "$TMP/fs"
    [ -n "${loop:-}" ] && losetup -d "$loop" 2>/dev/null
    mountpoint -q "$TMP/src" && { umount "$TMP/src" || umount -f -l "$TMP/src"; }
    for _ in $(seq 100); do
        [ -z "$(ours farshore-keeper)$(ours farshore-worker)" ] && break
        sleep 0.1
    done
    for pid in $(ours farshore-keeper) $(ours farshore-worker); do kill -KILL "$pid"; done
    [ $status -eq 0 ] || [ $status -eq 77 ] || tail -n 40 "$TMP"/*.log
    rm -rf --one-file-system "$TMP"
    exit $status
}

case $MOUNT_UNDER_TEST in
plain)
    [ -x "$MAIN" ] || { echo "SKIP: no $MAIN"; exit 77; }
    mkdir "$TMP/src" "$TMP/disks"
    truncate -s 256M "$TMP/disks/a.raw" "$TMP/disks/b.raw"
    "$MAIN" mount -l "$TMP/mount.log" "$TMP/src" a="$TMP/disks/a.raw" b="$TMP/disks/b.raw"
    worker_pid() { ours farshore-worker; }
    ;;
farshore)
    enable_vm kill 256M a b
    mount_vm kill
    worker_pid() { A status kill --json | jq -r '.vms[0].worker_pid // empty'; }
    ;;
*) fail "MOUNT_UNDER_TEST is plain or farshore, not $MOUNT_UNDER_TEST" ;;
esac

# Kills the worker once, when there is one, and waits until that process is gone.
kill_worker() {
    local pid
    for _ in $(seq 600); do
        pid=$(worker_pid)
        [ -n "$pid" ] && kill -KILL "$pid" 2>/dev/null && break
        pid=
        sleep 0.05
    done
    [ -n "$pid" ] || fail "no worker came back within half a minute"
    while [ -d "/proc/$pid" ] && ! grep -q '^State:[[:space:]]*Z' "/proc/$pid/status" 2>/dev/null; do
        sleep 0.01
    done
}

# Passes of verified writes until the kills are done; the pass under way is then finished.
load() { # NAME FIO-OPTIONS...
    local name=$1 pass=0
    shift
    until [ -e "$TMP/stop" ]; do
        fio --name="$name" --output-format=json --output="$TMP/fio-$name-$pass.json" \
            --rw=randwrite --bssplit=4k/80:64k/15:1m/5 --size=192M --io_size=192M --direct=1 \
            --verify=crc32c --verify_backlog=256 --verify_fatal=1 --verify_state_save=0 --do_verify=1 --fsync=512 \
            --randseed=$((pass + 1)) --filename="$TMP/src/$name.img" "$@" >"$TMP/$name.log" 2>&1 ||
            return 1
        pass=$((pass + 1))
    done
}

say "$KILLS kills under verified writes ($MOUNT_UNDER_TEST)"
load a --ioengine=libaio --iodepth=16 & loads=$!
load b --ioengine=psync --numjobs=4 --size=48M --offset_increment=48M --io_size=48M & loads="$loads $!"
for i in $(seq "$KILLS"); do
    sleep "0.$((RANDOM % 6 + 2))"
    kill_worker
done
touch "$TMP/stop"
for pid in $loads; do
    wait "$pid" || { cat "$TMP"/fio-*.json | grep -i 'error\|verify' || true; fail "fio saw the kills"; }
done
# fio says some things beside its JSON.
sed -n '/^{$/,/^}$/p' "$TMP"/fio-*.json >"$TMP/fio.json"
jq -rs '[.[].jobs[]] | "\(length) fio jobs, errors \([.[].error] | add), " +
    "writes \([.[].write.total_ios] | add), verified reads \([.[].read.total_ios] | add), " +
    "longest write \([.[].write.lat_ns.max] | max / 1e6 | floor) ms"' "$TMP/fio.json"
[ "$(jq -s '[.[].jobs[].error] | add' "$TMP/fio.json")" -eq 0 ] || fail "fio reports errors"

say "a file system on a loop device"
loop=$(losetup --find --show --direct-io=on "$TMP/src/a.img")
mkfs.ext4 -q "$loop"
mkdir "$TMP/fs"
mount "$loop" "$TMP/fs"
for i in 1 2 3 4 5; do
    head -c 8M /dev/urandom >"$TMP/data-$i"
    cp "$TMP/data-$i" "$TMP/fs/file-$i" & copier=$!
    kill_worker
    wait "$copier"
    sync -f "$TMP/fs"
done
rm "$TMP/fs/file-1"
fstrim "$TMP/fs"
umount "$TMP/fs"
mount "$loop" "$TMP/fs"
for i in 2 3 4 5; do cmp "$TMP/data-$i" "$TMP/fs/file-$i" || fail "file-$i differs"; done
umount "$TMP/fs"
fsck.ext4 -fn "$loop" >"$TMP/fsck.log" 2>&1 || { cat "$TMP/fsck.log"; fail "fsck finds damage"; }
losetup -d "$loop"
loop=

say "a clean end"
umount "$TMP/src"
for _ in $(seq 300); do
    [ -z "$(ours farshore-keeper)$(ours farshore-worker)" ] && break
    sleep 0.1
done
[ -z "$(ours farshore-keeper)$(ours farshore-worker)" ] || fail "processes outlive the mount"
echo "$((KILLS + 5)) kills, no error"
