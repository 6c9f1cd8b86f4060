#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A failed-over disk: it shows the point at once; a store out of reach is waited for, and what is
# local goes on beside forty reads that wait; workers die under load in the middle of hydration; once it is whole no store is
# needed, also at the next mount. A sparse disk of 1 TiB is whole in moments.
. "$(dirname "$0")/lib.sh" "$@"
need fio
case $TARGET in file://*) ;; *) skip "the target is moved away as a folder" ;; esac
mkdir "$TMP/b"
chmod 711 "$TMP" "$TMP/b" # the mount's way is one that a hypervisor could go
MNT=$TMP/b/state/mounts/web

of() { B status web --json | jq -r ".vms[0].$1 // empty"; }
partial() { grep -q '"origin"' "$TMP/b/config/vms/web.json"; } # as its settings say
is() { [ "$(of "$1")" = "$2" ]; }
gone() { [ ! -d "/proc/$1" ] || grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; }
worker_is_back() { [ -n "$(of worker_pid)" ]; }
kill_worker() {
    local pid
    wait_for 20 worker_is_back
    pid=$(of worker_pid)
    kill -KILL "$pid"
    wait_for 20 gone "$pid"
}

say "a source with data, and a point of it"
mkdir -p "$TMP/disks"
truncate -s 32M "$TMP/disks/os.raw"
truncate -s 256M "$TMP/disks/data.raw"
truncate -s 1T "$TMP/disks/big.raw"
head -c 160M /dev/urandom | dd of="$TMP/disks/data.raw" bs=1M conv=notrunc status=none iflag=fullblock
for place in 0 500000 1048575; do
    head -c 300K /dev/urandom | dd of="$TMP/disks/big.raw" bs=64K seek=$((place * 16)) conv=notrunc status=none
done
A enable web --disk "os=$TMP/disks/os.raw" --disk "data=$TMP/disks/data.raw" \
    --disk "big=$TMP/disks/big.raw" --cache "$CACHE" --target "$TARGET"
mount_vm web
join_vm web
"$ORACLE" write "$TMP/log" 2 2 5 "$TMP/src/os.img"
start_processor web "$TMP/process.log"
A point web --wait=target >/dev/null
kill "$processor" $(A status web --json | jq -r '.vms[0] | .pid, .worker_pid')
umount -l "$TMP/src" 2>/dev/null || true

say "failed over; the worker stands still before much is hydrated"
cat >"$TMP/start" <<SH
#!/bin/sh
kill -STOP \$(FARSHORE_CONFIG=$TMP/b/config FARSHORE_STATE=$TMP/b/state FARSHORE_RUN=$TMP/b/run \\
    $FARSHORE status web --json | jq -r '.vms[0].worker_pid' | tee $TMP/worker)
SH
printf '#!/bin/sh\n' >"$TMP/stop"
chmod 755 "$TMP/start" "$TMP/stop"
name_hosts b
B set web start="$TMP/start" stop="$TMP/stop" >/dev/null
B failover web --json >"$TMP/failover.json"
partial || fail "it is whole before it was looked at"

say "the store out of reach: said, waited for, and no matter for what is local"
mv "$TMP/target" "$TMP/away"
kill -CONT "$(cat "$TMP/worker")"
is hydration complete && fail "all was hydrated before the store went away"
wait_for 20 is hydration 'stalled(view)'
is state not-replicating || fail "state $(of state)"
[ -n "$(of hydration_reason)" ] || fail "no reason is said"
expect_exit 2 'reprotect' B point web
# The last of what is hydrated: absent now, and of use to nobody but this reader.
dd if="$MNT/big.img" bs=64K skip=$((1048575 * 16)) count=5 status=none >"$TMP/read" & reader=$!
dd if="$MNT/data.img" bs=1M count=160 status=none >"$TMP/read-data" & reader_data=$!
readers=()
for i in $(seq 38); do
    dd if="$MNT/big.img" bs=64K skip=$((i * 400000)) count=1 status=none >"$TMP/read-$i" & readers+=($!)
done
local_io() {
    timeout 30 dd if=/dev/urandom of="$MNT/data.img" bs=4096 seek=50000 count=50 oflag=dsync conv=notrunc status=none &&
        timeout 30 dd if="$MNT/data.img" of="$TMP/local" bs=4096 skip=50000 count=50 status=none ||
        fail "local I/O waits for the store"
}
local_io
kill_worker
local_io # the next worker has all of them in hand
kill_worker
wait_for 20 is hydration 'stalled(view)'
cmp -n $((50 * 4096)) "$TMP/local" <(dd if="$MNT/data.img" bs=4096 skip=50000 count=50 status=none) ||
    fail "a synced write is gone with its worker"
kill -0 "$reader" || fail "a read did not wait for the store"

say "workers die under load while it is hydrated"
fio --name=load --filename="$MNT/data.img" --offset=200M --size=40M --io_size=60M --direct=1 \
    --ioengine=libaio --iodepth=8 --rw=randwrite --bssplit=4k/80:64k/20 --fsync=64 --verify=crc32c \
    --verify_backlog=128 --verify_fatal=1 --verify_state_save=0 --do_verify=1 >"$TMP/fio.log" 2>&1 & load=$!
deaths=1 # before it was whole; the store comes and goes, so that there may be more
kill_worker
mv "$TMP/away" "$TMP/target"
for pid in "$reader" "${readers[@]}"; do wait "$pid" || fail "a read failed though the store came back"; done
cmp -n 300K "$TMP/read" <(dd if="$TMP/disks/big.raw" bs=64K skip=$((1048575 * 16)) count=5 status=none)
"$ORACLE" check "$TMP/log" 0 "$MNT/os.img" >/dev/null || fail "os is no cut of what was written"
for _ in 1 2 3 4 5; do
    partial && deaths=$((deaths + 1))
    kill_worker
    mv "$TMP/target" "$TMP/away"
    kill_worker
    mv "$TMP/away" "$TMP/target"
done
wait "$load" || { cat "$TMP/fio.log"; fail "fio saw the kills"; }
wait "$reader_data" || fail "a reader saw the kills"
cmp -n 160M "$TMP/read-data" "$TMP/disks/data.raw" || fail "data shows something else than the point"

say "whole: the 1 TiB with it"
echo "$deaths times a worker died before"
whole() { ! partial; }
wait_for 60 whole
[ "$(du -m "$TMP/b/state/disks/web/" | cut -f1)" -lt 300 ] || fail "holes were filled"

say "no store is needed: the same worker, a new one, a new mount"
mv "$TMP/target" "$TMP/away"
mv "$TMP/cache" "$TMP/cache-away"
same() {
    cmp -n 160M "$MNT/data.img" "$TMP/disks/data.raw" || fail "data differs, $1"
    cmp -n 300K "$MNT/big.img" "$TMP/disks/big.raw" || fail "big differs, $1"
    cmp "$TMP/local" <(dd if="$MNT/data.img" bs=4096 skip=50000 count=50 status=none) ||
        fail "what was written differs, $1"
    "$ORACLE" check "$TMP/log" 0 "$MNT/os.img" >/dev/null || fail "os differs, $1"
}
same "the same worker"
kill_worker
wait_for 20 worker_is_back
[ -z "$(of hydration)" ] || fail "a new worker hydrates what is whole"
same "a new worker"
B unmount "$MNT" >/dev/null
B mount web "$MNT"
same "mounted again"
B unmount "$MNT" >/dev/null
say "passed"
