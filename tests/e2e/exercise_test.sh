#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Everything that a program may do to a disk (tests/e2e/exerciser.c) is done to two disks of odd
# sizes at once, while cuts are made: the mount, the local file and the recovered point are then
# equal to the model, and holes are holes. Then once more over that state, after a remount, and the
# point before is still what it was. SEED=N repeats a run; OPERATIONS=N makes it longer.
. "$(dirname "$0")/lib.sh" "$@"
EXERCISER=$(dirname "$FARSHORE")/tests/exerciser
SEED=${SEED:-$RANDOM}
OPERATIONS=${OPERATIONS:-1500}

mkdir "$TMP/disks"
truncate -s $((24 * 1048576 + 1536)) "$TMP/disks/os.raw"
truncate -s $((7 * 1048576 + 512)) "$TMP/disks/data.raw"
A enable ex --disk os="$TMP/disks/os.raw" --disk data="$TMP/disks/data.raw" --cache "$CACHE" --target "$TARGET"
A set ex cut_interval=1
join_vm ex
start_processor ex "$TMP/process.log"

exercise() { # ROUND: leaves point-ROUND and models of it
    local disk runs=()
    mount_vm ex
    for disk in os data; do
        "$EXERCISER" run "$TMP/src/$disk.img" "$TMP/$disk.model" $((SEED + $1)) "$OPERATIONS" & runs+=($!)
    done
    for disk in "${runs[@]}"; do wait "$disk" || fail "the mount differs from the model (seed $SEED)"; done
    A point ex --wait=target >"$TMP/point-$1"
    for disk in os data; do
        cp --sparse=always "$TMP/$disk.model" "$TMP/$disk.model-$1"
        "$EXERCISER" compare "$TMP/src/$disk.img" "$TMP/$disk.model"
    done
    A unmount "$TMP/src"
    for disk in os data; do cmp "$TMP/disks/$disk.raw" "$TMP/$disk.model"; done
}

say "seed $SEED: twice $OPERATIONS operations on two disks"
exercise 1
exercise 2
mkdir "$TMP/rec"
B recover "$TMP/rec"
for round in 1 2; do
    for disk in os data; do
        "$EXERCISER" compare "$TMP/rec/ex/points/$(cat "$TMP/point-$round")/$disk.img" "$TMP/$disk.model-$round"
    done
done
say "it finds one wrong byte, and a hole that is none (it can fail)"
cp --sparse=always "$TMP/os.model" "$TMP/wrong"
printf 'x' | dd of="$TMP/wrong" bs=1 seek=1000001 conv=notrunc status=none
! "$EXERCISER" compare "$TMP/wrong" "$TMP/os.model" 2>"$TMP/err" || fail "a wrong byte passed"
truncate -s 1M "$TMP/empty-model" && head -c 1M /dev/zero >"$TMP/zeros"
! "$EXERCISER" compare "$TMP/zeros" "$TMP/empty-model" 2>"$TMP/err" || fail "written zeros passed for a hole"
say "passed: $(point_ids ex | wc -l) points"
