#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# File systems above loop devices, above the mount, cut under load: at a recovery point the journal
# replays, fsck is clean, and every file synced before the cut is there, byte for byte.
. "$(dirname "$0")/lib.sh" "$@"
FILES=20000

enable_vm fs 1536M ext4 xfs
mount_vm fs
join_vm fs
start_processor fs "$TMP/process.log"

for type in ext4 xfs; do
    loop=$(losetup --find --show --direct-io=on "$TMP/src/$type.img")
    "mkfs.$type" -q "$loop"
    mkdir "$TMP/fs-$type"
    mount "$loop" "$TMP/fs-$type"
done

say "a tree of $FILES files on each"
make_tree() { # DIR
    local d f
    for d in $(seq 0 199); do
        mkdir -p "$1/tree/$d"
        for f in $(seq 0 $((FILES / 200 - 1))); do
            printf '%s' "$d/$f $RANDOM$RANDOM" >"$1/tree/$d/$f"
        done
        head -c 65536 /dev/urandom >"$1/tree/$d/big"
    done
    (cd "$1" && find tree -type f -print0 | sort -z | xargs -0 sha256sum) >"$TMP/$(basename "$1").sums"
    sync -f "$1"
}
make_tree "$TMP/fs-ext4" & makers=$!
make_tree "$TMP/fs-xfs" & makers="$makers $!"
for maker in $makers; do wait "$maker"; done

say "churn goes on while points are cut"
churn() { # DIR
    local i=0
    while [ ! -e "$TMP/stop" ]; do
        mkdir -p "$1/churn/$((i % 50))"
        head -c $((RANDOM * 4)) /dev/urandom >"$1/churn/$((i % 50))/$i"
        rm -f "$1/churn/$(((i + 25) % 50))/$((i - 60))"
        i=$((i + 1))
    done
}
churn "$TMP/fs-ext4" & churners=$!
churn "$TMP/fs-xfs" & churners="$churners $!"
for i in 1 2 3 4 5; do
    sleep 1
    A point fs --wait=target --timeout 120 >"$TMP/point"
done
touch "$TMP/stop"
for churner in $churners; do wait "$churner"; done
point=$(cat "$TMP/point")

say "point $point"
mkdir -p "$TMP/rec"
B recover "$TMP/rec" --writable check
for type in ext4 xfs; do
    image=$TMP/rec/fs/points/$point/$type.img
    loop=$(losetup --find --show "$image")
    mkdir "$TMP/at-$type"
    mount -o nouuid "$loop" "$TMP/at-$type" 2>/dev/null || mount "$loop" "$TMP/at-$type"
    (cd "$TMP/at-$type" && sha256sum --quiet -c "$TMP/fs-$type.sums") || fail "$type: files differ"
    umount "$TMP/at-$type"
    case $type in
    ext4) e2fsck -fn "$loop" >"$TMP/fsck.log" 2>&1 || fail "e2fsck: $(tail -5 "$TMP/fsck.log")" ;;
    xfs) xfs_repair -n "$loop" >"$TMP/fsck.log" 2>&1 || fail "xfs_repair: $(tail -5 "$TMP/fsck.log")" ;;
    esac
    losetup -d "$loop"
    echo "$type: $(wc -l <"$TMP/fs-$type.sums") files equal, fsck clean"
done
umount "$TMP/rec"
for type in ext4 xfs; do
    loop=$(losetup -nO NAME -j "$TMP/src/$type.img")
    umount "$TMP/fs-$type"
    losetup -d "$loop"
done
A unmount "$TMP/src" --wait
say "passed"
