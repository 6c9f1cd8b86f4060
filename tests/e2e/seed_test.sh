#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A copy of the disk near the target: enable --seed begins the history with it, and the source ships
# what differs, no more. Once on one host; once made at the target and found there by the source.
. "$(dirname "$0")/lib.sh" "$@"

MIB=192
stores=(--cache "file://$TMP/cache" --target "file://$TMP/target")
mkdir -p "$TMP/disks"
# The disk as it was some days ago, with a hole in it, and what changed since.
copy=$TMP/disks/copy.raw disk=$TMP/disks/disk.raw
truncate -s 256M "$copy" # more than one epoch of a seed
head -c ${MIB}M /dev/urandom | dd of="$copy" bs=1M seek=16 conv=notrunc status=none
cp --sparse=always "$copy" "$disk"
head -c 2M /dev/urandom | dd of="$disk" bs=1M seek=20 conv=notrunc status=none
head -c 1M /dev/zero | dd of="$disk" bs=1M seek=40 conv=notrunc status=none
head -c 1M /dev/urandom | dd of="$disk" bs=1M seek=200 conv=notrunc status=none

bytes_in() { find "$1" -type f -printf '%s\n' | awk '{n += $1} END {print n + 0}'; }

# After enable on the source: its first point is the disk, and the seed never crossed.
check_seeded() { # VM
    local vm=$1 shipped
    [ "$(bytes_in "$TMP/cache")" -lt 1000000 ] || fail "the seed went through the cache store"
    mount_vm "$vm" --cut-interval 1
    A point "$vm" --wait >/dev/null
    shipped=$(A status "$vm" --json | jq '.vms[0].shipped_bytes')
    [ "$shipped" -ge 3145728 ] && [ "$shipped" -lt 4000000 ] ||
        fail "$shipped bytes shipped, where 3 MiB differ"
    B process "$vm" --once >/dev/null
    mkdir -p "$TMP/rec"
    B recover "$TMP/rec" --vm "$vm"
    cmp "$TMP/rec/$vm/latest/os.img" "$disk"
    B verify "$vm" >/dev/null
    # It is a source like any other from here on.
    head -c 64K /dev/urandom | dd of="$TMP/src/os.img" bs=4k seek=3000 conv=notrunc status=none
    point=$(A point "$vm" --wait)
    B process "$vm" --once >/dev/null
    wait_for 30 test -e "$TMP/rec/$vm/points/$point"
    cmp "$TMP/rec/$vm/points/$point/os.img" "$TMP/src/os.img"
    umount "$TMP/rec"
    A unmount "$TMP/src" --wait
}

say "on one host"
expect_exit 2 "names a disk" A enable one --disk "os=$disk" --seed "other=$copy" "${stores[@]}"
expect_exit 3 "nowhere.raw" A enable one --disk "os=$disk" --seed "os=$TMP/nowhere.raw" "${stores[@]}"
A enable one --disk "os=$disk" --seed "os=$copy" "${stores[@]}"
[ ! -e "$TMP/a/state/seeds/one" ] || fail "the staging store is left behind"
[ "$(bytes_in "$TMP/target")" -ge $((MIB * 1048576)) ] || fail "the seed is not in the target"
join_vm one
check_seeded one
A disable one --purge --yes one >/dev/null
B disable one >/dev/null
rm -r "$TMP/cache" "$TMP/target" "$TMP/b"

say "killed on the way, purged, and begun anew over what it left"
seeds=$TMP/b/state/seeds/three
start_seed() { # VM
    B enable "$1" --seed "os=$copy" "${stores[@]}" &
    seeding=$!
    PIDS+=($seeding)
    until [ -e "$TMP/target/$1/history/0000000000000002" ]; do kill -0 $seeding; done
}
kill_seed() {
    pkill -KILL -P $seeding || fail "it ended before it was killed"
    wait $seeding 2>/dev/null || true
}
start_seed three
expect_exit 8 "enable of it is under way" B enable three --seed "os=$TMP/disks/disk.raw" "${stores[@]}"
expect_exit 8 "enable is under way" B disable three
kill_seed
cp -a "$seeds" "$TMP/left"
B disable three --purge --yes three >/dev/null
[ ! -e "$seeds" ] || fail "the purge leaves the staging store behind"
mv "$TMP/left" "$seeds" # as of a host that was restored
B enable three --seed "os=$copy" "${stores[@]}" >/dev/null
[ ! -e "$seeds" ] || fail "what the older one left is still there"
B disable three --purge --yes three >/dev/null
rm -r "$TMP/cache" "$TMP/target" "$TMP/b"

say "made near the target, killed on the way, found by the source"
key=$TMP/b/config/keys/two.key
start_seed two
kill_seed
install -m 600 "$key" "$TMP/two.key"
expect_exit 2 "is being seeded\|come to its end" A enable two --disk "os=$disk" --key "$TMP/two.key" "${stores[@]}"
before=$(bytes_in "$TMP/target")
B enable two --seed "os=$copy" "${stores[@]}" | says "on the source" || fail "no word on what comes next"
after=$(bytes_in "$TMP/target")
[ $((after - before)) -lt $((MIB * 1048576)) ] || fail "the seed began anew after the kill"
expect_exit 1 "has a vault" A enable two --disk "os=$disk" "${stores[@]}"
truncate -s 300M "$TMP/disks/larger.raw"
expect_exit 2 "has 314572800 bytes and its seed" A enable two --disk "os=$TMP/disks/larger.raw" --key "$TMP/two.key" "${stores[@]}"
head -c 3M /dev/urandom >"$TMP/difference"
cp --sparse=always "$copy" "$disk"
dd if="$TMP/difference" of="$disk" bs=1M seek=20 conv=notrunc status=none
A enable two --disk "os=$disk" --key "$TMP/two.key" "${stores[@]}" | says "farshore mount" || fail "not a source"
expect_exit 1 "enabled already" A enable two --disk "os=$disk" --key "$TMP/two.key" "${stores[@]}"
check_seeded two
expect_exit 1 "no seed that waits" b env FARSHORE_CONFIG="$TMP/c" FARSHORE_STATE="$TMP/c" FARSHORE_RUN="$TMP/c" \
    "$FARSHORE" enable two --disk "os=$copy" --key "$TMP/two.key" "${stores[@]}"
say "passed"
