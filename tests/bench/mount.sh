#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the guest notices: fio with O_DIRECT on the mount, with replication running, as a ratio of the
# same fio on a raw file beside it: with O_DIRECT (what a guest without farshore has) and through the
# page cache (what the mount itself does with the local file). Taken in turn; medians.
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

measure() { # FILE DIRECT RW BS DEPTH: IOPS
    fio --name=b --filename="$1" --direct="$2" --rw="$3" --bs="$4" --iodepth="$5" --ioengine=libaio \
        --runtime=4 --time_based --size=1G --output-format=json | jq ".jobs[0].${3#rand}.iops"
}
for job in "randwrite 4k 16" "randread 4k 16" "randwrite 4k 1" "write 1M 4" "read 1M 4"; do
    for i in $(seq "$ROUNDS"); do
        # shellcheck disable=SC2086
        measure "$TMP/disks/plain.raw" 1 $job >>"$TMP/direct.out"
        # shellcheck disable=SC2086
        measure "$TMP/disks/plain.raw" 0 $job >>"$TMP/cached.out"
        # shellcheck disable=SC2086
        measure "$TMP/src/os.img" 1 $job >>"$TMP/mount.out"
    done
    awk -v job="$job" -v d="$(median <"$TMP/direct.out")" -v c="$(median <"$TMP/cached.out")" \
        -v m="$(median <"$TMP/mount.out")" 'BEGIN {
        printf "%-16s mount %7.0f IOPS; raw direct %7.0f, ratio %.2f; raw cached %7.0f, ratio %.2f\n",
               job, m, d, m/d, c, m/c}'
    rm "$TMP"/{direct,cached,mount}.out
done
A unmount "$TMP/src"
