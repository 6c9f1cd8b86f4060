#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Killing the mount's process under load is invisible (docs: promise 5). The worker is killed three
# times a second under verified writes at queue depth 16, on the mount and on a loop device over it, while the
# oracle writes by several threads: no client sees an error, a point asked for between two storms of
# kills is a cut, and the next one equals the disks. A file system on the loop device goes on and is
# clean. Then keeper and worker are killed at once: nothing acknowledged is lost, and little is shipped
# again. KILLS=20 sets how often; with STALL_MS no request may take so much longer than without kills.
# LOAD_RATE bounds what fio writes and reads in a second, LOAD_THREADS=4 how many of the oracle's
# write: on a machine that is slow to ship, points come only with less.
. "$(dirname "$0")/lib.sh" "$@"
KILLS=${KILLS:-20}
KILL_PAUSE=0.29
SEED=${SEED:-$RANDOM}
need fio losetup mkfs.ext4

mkdir "$TMP/disks"
truncate -s 16M "$TMP/disks/c.raw"
truncate -s 48M "$TMP/disks/a.raw" "$TMP/disks/b.raw"
VM=kill$$ # by which its processes are known
A enable "$VM" --disk a="$TMP/disks/a.raw" --disk b="$TMP/disks/b.raw" --disk c="$TMP/disks/c.raw" \
    --cache "$CACHE" --target "$TARGET"
mount_vm "$VM" --cut-interval 1
join_vm "$VM"
WORKER="worker $VM "

now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
gone() { [ ! -e "/proc/$1/exe" ]; } # a zombie has none
nothing_runs() { [ -z "$(ours farshore-keeper "$WORKER")$(ours farshore-worker "$WORKER")" ]; }

# Whether the process has threads, as a worker has once it serves.
serves() {
    local threads=("/proc/$1/task/"*)
    [ ${#threads[@]} -gt 4 ]
}
# Kills the worker once, when it serves (or, with NOW, when there is one), and waits until it is gone.
# The keeper has no other child, and asking for it so costs no process: these kills must not wait for
# a busy machine.
kill_worker() { # [NOW]
    local pid=
    for _ in $(seq 3000); do
        read -r pid _ <"/proc/$keeper/task/$keeper/children" || true
        [ -n "$pid" ] && { [ -n "${1:-}" ] || serves "$pid"; } && kill -KILL "$pid" 2>/dev/null && break
        pid=
        sleep 0.01
    done
    [ -n "$pid" ] || fail "no worker came back within half a minute"
    until gone "$pid"; do sleep 0.01; done
}
storm() { # KILLS; one in five in no matter what state
    local begun i
    begun=$(now_ms)
    for i in $(seq "$1"); do
        sleep "$KILL_PAUSE"
        [ $((i % 5)) -ne 0 ] || kill_worker now
        [ $((i % 5)) -eq 0 ] || kill_worker
    done
    echo "$1 kills in $(($(now_ms) - begun)) ms"
}

# Passes of verified writes until the kills are done; the pass under way is then finished.
load() { # NAME FILE
    local pass=0
    until [ -e "$TMP/stop" ]; do
        fio --name="$1" --output-format=json --output="$TMP/fio-$1-$pass.json" --filename="$2" \
            --rw=randwrite --bssplit=4k/80:64k/15:1m/5 --size=32M --io_size=32M --direct=1 \
            --ioengine=libaio --iodepth=16 --verify=crc32c --verify_backlog=256 --verify_fatal=1 \
            --verify_state_save=0 --do_verify=1 --fsync=512 --randseed=$((pass + 1)) \
            ${LOAD_RATE:+--rate=$LOAD_RATE} >"$TMP/$1.log" 2>&1 ||
            return 1
        pass=$((pass + 1))
    done
}
loads_begin() {
    rm -f "$TMP/stop" "$TMP"/fio*.json
    load a "$TMP/src/a.img" & loads=$!
    load b "$loop" & loads="$loads $!"
}
# The longest that a write or sync took, in ms, goes to `worst`.
loads_end() {
    local pid
    touch "$TMP/stop" "$TMP/log.stop"
    for pid in $loads; do
        wait "$pid" || { cat "$TMP"/fio-*.json | grep -i 'error\|verify' || true; fail "a client saw the kills (seed $SEED)"; }
    done
    # fio says some things beside its JSON.
    sed -n '/^{$/,/^}$/p' "$TMP"/fio-*.json >"$TMP/fio.json"
    [ "$(jq -s '[.[].jobs[].error] | add' "$TMP/fio.json")" -eq 0 ] || fail "fio reports errors"
    worst=$(jq -s '[.[].jobs[] | .write.lat_ns.max, .read.lat_ns.max, .sync.lat_ns.max] | max / 1e6 | floor' "$TMP/fio.json")
    jq -rs '[.[].jobs[]] | "\(length) fio jobs, writes \([.[].write.total_ios] | add), " +
        "verified reads \([.[].read.total_ios] | add)"' "$TMP/fio.json"
}

keeper=$(ours farshore-keeper)
worst=0
loop=$(losetup --find --show --direct-io=on "$TMP/src/b.img")
if [ -n "${STALL_MS:-}" ]; then
    say "the same load without kills, to compare"
    loads_begin
    sleep 10
    loads_end
    echo "longest request without kills $worst ms"
fi

say "$KILLS kills under verified writes"
least=$worst
loads_begin
rm -f "$TMP/log.stop"
"$ORACLE" write "$TMP/log" 600 "${LOAD_THREADS:-4}" "$SEED" "$TMP/src/c.img" & loads="$loads $!"
storm $((KILLS / 2))
since=$(now_ms)
until amid=$(A point "$VM" --wait --timeout 60); do [ $SECONDS -lt 300 ]; done # `try again`
storm $((KILLS - KILLS / 2))
loads_end
echo "longest request with kills $worst ms"
[ "$worst" -lt $((least + ${STALL_MS:-1000000})) ] || fail "a request took $worst ms"

say "the points amid the kills are cuts, the next one equals the disks"
final=$(A point "$VM" --wait --timeout 120)
[ "$(A status "$VM" --json | jq -r '.vms[0].state')" = protected ] || fail "$(A status "$VM")"
B process "$VM" --once
mkdir "$TMP/rec"
B recover "$TMP/rec"
check_points "$VM" "$TMP/rec" "$TMP/log" c
"$ORACLE" check "$TMP/log" "$since" "$TMP/rec/$VM/points/$amid/c.img"
"$ORACLE" check "$TMP/log" "$(now_ms)" "$TMP/rec/$VM/points/$final/c.img"
for disk in a b c; do cmp "$TMP/rec/$VM/points/$final/$disk.img" "$TMP/disks/$disk.raw"; done
umount "$TMP/rec"

say "a file system on a loop device"
mkfs.ext4 -q "$loop"
mkdir "$TMP/fs"
mount "$loop" "$TMP/fs"
for i in 1 2 3 4 5; do
    head -c 4M /dev/urandom >"$TMP/data-$i"
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

say "a clean end"
wait_for 30 umount "$TMP/src" # who probes the loop device may hold it a while
wait_for 30 nothing_runs

say "keeper and worker killed at once"
mount_vm "$VM"
A pause "$VM" # so that what is dirty at the end is known
for region in 5 20 40; do
    dd if=/dev/urandom of="$TMP/src/a.img" bs=1M count=4K iflag=count_bytes seek=$region conv=notrunc,fsync status=none
done
fallocate --punch-hole --length 16M "$TMP/src/c.img" # of what the oracle wrote before
"$ORACLE" write "$TMP/last" 60 4 "$SEED" "$TMP/src/c.img" 2>"$TMP/oracle.err" & writer=$!
sleep 1
# Stopped first: the one that dies later would replace the other. The worker dies before the keeper,
# whose death wakes what is stopped in its session.
both="$(ours farshore-worker "$WORKER") $(ours farshore-keeper "$WORKER")"
kill -STOP $both
for pid in $both; do wait_for 10 grep -q '^State:[[:space:]]*T' "/proc/$pid/status"; done
kill -KILL $both
! wait "$writer" || fail "the mount outlived its processes"
! stat "$TMP/src/c.img" 2>"$TMP/err" || fail "the mount outlived its processes"
[ "$(A status "$VM" --json | jq -r '.vms[0].state')" = not-mounted ] || fail "$(A status "$VM")"
A mount "$VM" "$TMP/src"
grep -q 'clearing away a dead' "$TMP/a/state/vms/$VM/mount.log" || fail "nothing is said of the dead mount"
"$ORACLE" check "$TMP/last" "$(now_ms)" "$TMP/src/c.img"
dirty=$(A status "$VM" --json | jq '.vms[0].dirty_bytes') written=$(($(stat -c '%b * 512' "$TMP/disks/c.raw")))
A resume "$VM"
final=$(A point "$VM" --wait --timeout 120)
shipped=$(A status "$VM" --json | jq '.vms[0].shipped_bytes')
echo "dirty $dirty bytes, shipped $shipped"
# 3 regions of 1 MiB and the whole of c; of the regions one block each, and half of what the oracle
# writes can be compressed.
[ "$dirty" -le $((19 << 20)) ] || fail "more is dirty than was marked"
[ "$shipped" -le $((written * 55 / 100 + (1 << 20))) ] || fail "more was shipped than was written: $written bytes of c"
B process "$VM" --once
B recover "$TMP/rec"
for disk in a b c; do cmp "$TMP/rec/$VM/points/$final/$disk.img" "$TMP/disks/$disk.raw"; done
umount "$TMP/rec"
A unmount "$TMP/src" --wait
echo "$((KILLS + 5)) kills, no error"
