#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a disk's size costs when its data stay the same: 1 GiB of data on a disk of 2 GiB and on a
# sparse one of 2 TiB, each enabled, replicated, and its point opened. Prints medians and ratios.
#   sparse.sh SOURCE_FOLDER BINARY [ROUNDS]
. "$(dirname "$0")/../e2e/lib.sh" "$1" "$2"
ROUNDS=${3:-3}

now_ms() { date +%s%3N; }
rss_kib() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

head -c 64M /dev/urandom >"$TMP/piece"
round() { # SIZE: prints total ms, KiB of keeper, worker and recovery mount, ms of the first read
    local size=$1 disk=$TMP/disks/os.raw step start first pid worker recover
    rm -rf "$TMP/a" "$TMP/b" "$TMP/cache" "$TMP/target" "$TMP/disks"
    mkdir -p "$TMP/disks" "$TMP/rec"
    truncate -s "$size" "$disk"
    step=$(($(stat -c %s "$disk") / 16 / 1048576))
    for i in $(seq 0 15); do
        dd if="$TMP/piece" of="$disk" bs=1M seek=$((i * step)) conv=notrunc status=none
    done
    sync -f "$disk"
    start=$(now_ms)
    enable_vm sparse "$size" os >/dev/null
    mount_vm sparse >/dev/null
    A point sparse --wait --timeout 300 >/dev/null
    pid=$(A status sparse --json | jq '.vms[0].pid')
    worker=$(A status sparse --json | jq '.vms[0].worker_pid')
    join_vm sparse >/dev/null
    B process sparse --once >/dev/null
    B recover "$TMP/rec" >/dev/null
    first=$(now_ms)
    dd if="$TMP/rec/sparse/latest/os.img" of=/dev/null bs=1M count=4 status=none
    recover=$(pgrep -f "recover $TMP/rec" | head -n 1)
    echo "$(($(now_ms) - start)) $(($(rss_kib "$pid") + $(rss_kib "$worker") + $(rss_kib "$recover"))) $(($(now_ms) - first))"
    umount "$TMP/rec"
    A unmount "$TMP/src" >/dev/null
}

for i in $(seq "$ROUNDS"); do
    for size in 2G 2T; do round $size >>"$TMP/$size.out"; done
done
column() { cut -d' ' -f"$2" "$TMP/$1.out" | median; }
awk -v a="$(column 2G 1)" -v b="$(column 2T 1)" -v m="$(column 2G 2)" -v n="$(column 2T 2)" \
    -v o="$(column 2G 3)" -v p="$(column 2T 3)" 'BEGIN {
    printf "enable, replicate, open: 2 GiB %.1f s, 2 TiB %.1f s, ratio %.2f (bound 1.30)\n", a/1000, b/1000, b/a
    printf "first 4 MiB of the point: 2 GiB %d ms, 2 TiB %d ms\n", o, p
    printf "memory: 2 GiB %.0f MiB, 2 TiB %.0f MiB, %.1f MiB more per TiB (bound 40)\n", m/1024, n/1024, (n-m)/1024/2 }'
