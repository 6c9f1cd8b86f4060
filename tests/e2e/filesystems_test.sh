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

say "churn goes on while points are cut, and files are synced one by one"
churn() { # DIR
    local i=0
    while [ ! -e "$TMP/stop" ]; do
        mkdir -p "$1/churn/$((i % 50))"
        head -c $((RANDOM * 4)) /dev/urandom >"$1/churn/$((i % 50))/$i"
        rm -f "$1/churn/$(((i + 25) % 50))/$((i - 60))"
        i=$((i + 1))
    done
}
# Behind each sync a line: when it had returned, digest, name.
sync_files() { # DIR
    local i=0
    mkdir "$1/synced"
    while [ ! -e "$TMP/stop" ]; do
        head -c $((RANDOM * 3)) /dev/urandom | dd of="$1/synced/$i" bs=64k conv=fsync status=none
        echo "$(date +%s%3N) $(sha256sum <"$1/synced/$i" | cut -d' ' -f1)  synced/$i" >>"$1.synced"
        i=$((i + 1))
    done
}
for type in ext4 xfs; do
    churn "$TMP/fs-$type" & churners="${churners:-} $!"
    sync_files "$TMP/fs-$type" & churners="$churners $!"
done
for type in ext4 xfs; do wait_for 60 test -s "$TMP/fs-$type.synced"; done
for i in 1 2 3 4 5; do
    sleep 1
    echo "$(date +%s%3N) $(A point fs --wait=target --timeout 120)" >>"$TMP/points"
done
touch "$TMP/stop"
for churner in $churners; do wait "$churner"; done

check_point() { # ASKED POINT
    local type loop synced
    for type in ext4 xfs; do
        loop=$(losetup --find --show "$TMP/rec/fs/points/$2/$type.img")
        mkdir -p "$TMP/at-$type"
        mount -o nouuid "$loop" "$TMP/at-$type" 2>/dev/null || mount "$loop" "$TMP/at-$type"
        awk -v asked="$1" '$1 < asked {print $2 "  " $3}' "$TMP/fs-$type.synced" >"$TMP/synced"
        synced=$(wc -l <"$TMP/synced")
        [ "$synced" -gt 0 ] || fail "$type: nothing was synced before $2"
        (cd "$TMP/at-$type" && sha256sum --quiet -c "$TMP/fs-$type.sums" "$TMP/synced") || fail "$type: files differ"
        umount "$TMP/at-$type"
        case $type in
        ext4) e2fsck -fn "$loop" >"$TMP/fsck.log" 2>&1 || fail "e2fsck: $(tail -5 "$TMP/fsck.log")" ;;
        xfs) xfs_repair -n "$loop" >"$TMP/fsck.log" 2>&1 || fail "xfs_repair: $(tail -5 "$TMP/fsck.log")" ;;
        esac
        losetup -d "$loop"
        echo "$type: $(wc -l <"$TMP/fs-$type.sums") files equal and $synced synced amid the churn, fsck clean"
    done
}
mkdir -p "$TMP/rec"
B recover "$TMP/rec" --writable check
for i in 1 3 5; do
    read -r asked point < <(sed -n ${i}p "$TMP/points")
    say "point $i, $point"
    check_point "$asked" "$point"
done
umount "$TMP/rec"
for type in ext4 xfs; do
    loop=$(losetup -nO NAME -j "$TMP/src/$type.img")
    umount "$TMP/fs-$type"
    losetup -d "$loop"
done
free() { [ -z "$(losetup -nO NAME -j "$TMP/src/$1.img")" ]; } # who probes it may hold it a while
for type in ext4 xfs; do wait_for 20 free $type; done
A unmount "$TMP/src" --wait
say "passed"
