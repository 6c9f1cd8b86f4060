#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the guest notices: fio on the mount, with replication running, as a ratio of the same fio on
# a raw file beside it, taken in turn; medians.
#   mount.sh SOURCE_FOLDER BINARY [ROUNDS]
. "$(dirname "$0")/../e2e/lib.sh" "$1" "$2"
ROUNDS=${3:-5}

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }
enable_vm bench 1G os >/dev/null
head -c 1G /dev/urandom | tee "$TMP/disks/os.raw" >"$TMP/disks/plain.raw"
mount_vm bench >/dev/null
A point bench --wait --timeout 300 >/dev/null
join_vm bench >/dev/null
b "$FARSHORE" process bench >"$TMP/process.log" 2>&1 &
PIDS+=($!)

measure() { # FILE RW BS DEPTH: IOPS
    fio --name=b --filename="$1" --rw="$2" --bs="$3" --iodepth="$4" --ioengine=libaio --direct=1 \
        --runtime=4 --time_based --size=1G --output-format=json | jq ".jobs[0].${2#rand}.iops"
}
for job in "randwrite 4k 16" "randread 4k 16" "randwrite 4k 1" "write 1M 4" "read 1M 4"; do
    for i in $(seq "$ROUNDS"); do
        # shellcheck disable=SC2086
        measure "$TMP/disks/plain.raw" $job >>"$TMP/plain.out"
        # shellcheck disable=SC2086
        measure "$TMP/src/os.img" $job >>"$TMP/mount.out"
    done
    awk -v job="$job" -v p="$(median <"$TMP/plain.out")" -v m="$(median <"$TMP/mount.out")" \
        'BEGIN {printf "%-18s raw %8.0f IOPS, mount %8.0f IOPS, ratio %.2f\n", job, p, m, m/p}'
    rm "$TMP/plain.out" "$TMP/mount.out"
done
A unmount "$TMP/src"
