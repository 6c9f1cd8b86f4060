#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job, end to end, on this machine: region A and region B are two configurations, the
# stores are folders. Two disks are enabled and mounted, one carries ext4 on a loop device; files
# are written while points are cut; the target joins with nothing but the key, processes, and
# mounts every point. As root, under five minutes; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
[ "$(id -u)" -eq 0 ] || { echo "the demo mounts file systems: run it as root" >&2; exit 1; }
[ -e /dev/fuse ] || { echo "the demo needs /dev/fuse" >&2; exit 1; }
packages_install "${PACKAGES[@]}"
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
build_log=$(cmake --build build --target farshore) || { tail -30 <<<"$build_log"; exit 1; }
FARSHORE=$PWD/build/farshore
ROOT=$(mktemp -d "${TMPDIR:-/tmp}/farshore-demo.XXXXXX")

cleanup() {
    local status=$?
    set +e
    for job in $(jobs -p); do pkill -TERM -P "$job"; done
    mountpoint -q "$ROOT/check" && umount "$ROOT/check"
    mountpoint -q "$ROOT/guest" && umount "$ROOT/guest"
    losetup -nO NAME,BACK-FILE -a | awk -v t="$ROOT/" 'index($2, t) == 1 {print $1}' |
        xargs -r -n1 losetup -d
    mountpoint -q "$ROOT/points" && umount "$ROOT/points"
    mountpoint -q "$ROOT/vm" && A unmount "$ROOT/vm" >/dev/null
    if [ $status -ne 0 ]; then
        tail -20 "$ROOT"/a/state/vms/*/mount.log 2>/dev/null
        echo "the demo FAILED (exit $status)"
    fi
    rm -rf --one-file-system "$ROOT"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# The two regions. They share the stores and a copy of the key, nothing else.
region() { env "FARSHORE_CONFIG=$ROOT/$1/config" "FARSHORE_STATE=$ROOT/$1/state" "FARSHORE_RUN=$ROOT/$1/run" "${@:2}"; }
A() { region a "$FARSHORE" "$@"; }
B() { region b "$FARSHORE" "$@"; }
step() { printf '\n== %s\n' "$*"; }
same() { cmp "$1" "$2" || { echo "$1 differs from $2"; exit 1; }; }

step "Region A: two sparse disks, enabled"
mkdir -p "$ROOT"/{disks,vm,guest,points,check,digests}
truncate -s 1G "$ROOT/disks/system.img"
truncate -s 2G "$ROOT/disks/data.img"
A enable web --disk "system=$ROOT/disks/system.img" --disk "data=$ROOT/disks/data.img" \
    --cache "file://$ROOT/cache" --target "file://$ROOT/target"

step "mounted: a loop device and ext4 on one, plain writes to the other"
A mount web "$ROOT/vm" --cut-interval 1
loop=$(losetup --find --show --direct-io=on "$ROOT/vm/system.img")
mkfs.ext4 -q "$loop"
mount "$loop" "$ROOT/guest"

step "files are written, points are cut"
ids=()
for i in 1 2 3 4 5; do
    head -c $((i * 3))M /dev/urandom >"$ROOT/guest/file-$i"
    head -c 2M /dev/urandom | dd of="$ROOT/vm/data.img" bs=1M seek=$((i * 350)) conv=notrunc,fsync status=none
    sync -f "$ROOT/guest"
    (cd "$ROOT/guest" && sha256sum file-*) >"$ROOT/digests/$i"
    ids[i]=$(A point web --wait --label "after file $i")
    echo "point ${ids[i]}: files 1 to $i"
done
A status web

step "Region B: joins with the key, processes what waits"
install -m 600 "$ROOT/a/config/keys/web.key" "$ROOT/web.key"
B join "file://$ROOT/target" --key "$ROOT/web.key"
B process --once
sleep 1
rpo=$(A status web --json | jq -r '.vms[0].rpo_seconds')
shipped=$(A status web --json | jq -r '.vms[0].shipped_bytes')

step "the guest stops; the last cut is shipped and applied"
umount "$ROOT/guest"
losetup -d "$loop"
B process web --interval 1 >/dev/null & # a subshell, whose child is the processor
A unmount "$ROOT/vm" --wait=target --timeout 60
pkill -TERM -P $!
wait $!

step "every point is a folder of disks"
B recover "$ROOT/points"
for i in 1 2 3 4 5; do
    mount -o ro,noload,loop "$ROOT/points/web/points/${ids[i]}/system.img" "$ROOT/check"
    (cd "$ROOT/check" && sha256sum --quiet -c "$ROOT/digests/$i")
    [ ! -e "$ROOT/check/file-$((i + 1))" ] || { echo "point ${ids[i]} shows the future"; exit 1; }
    umount "$ROOT/check"
    echo "point ${ids[i]}: files 1 to $i are whole, nothing later is there"
done
e2fsck -fn "$ROOT/points/web/latest/system.img"
for disk in system data; do
    same "$ROOT/disks/$disk.img" "$ROOT/points/web/latest/$disk.img"
done
echo "the newest point equals both disks, byte for byte"
umount "$ROOT/points"

step "a point opens writable: the drill stays here, the vault is unchanged"
vault() { (cd "$ROOT/target" && find . -type f -not -path '*/pins/*' -print0 | sort -z | xargs -0 sha256sum) | sha256sum; }
before=$(vault)
B recover "$ROOT/points" --writable drill
e2fsck -fy "$ROOT/points/web/points/${ids[3]}/system.img" >/dev/null || [ $? -le 1 ]
mount -o loop "$ROOT/points/web/points/${ids[3]}/system.img" "$ROOT/check"
echo "a drill was here" >"$ROOT/check/drill"
rm "$ROOT/check/file-1"
umount "$ROOT/check"
umount "$ROOT/points"
[ "$(vault)" = "$before" ] || { echo "the drill changed the vault"; exit 1; }
echo "written, unmounted, and the vault is as before"

step "the newest point is read whole and proven"
proven=$(B verify web --json | jq -r '.bytes')

step "what there is"
B points web
echo
printf '%-16s %s\n' \
    "points" "$(B points web --json | jq '.points | length')" \
    "disks" "$(du --apparent-size -ch "$ROOT"/disks/*.img | tail -1 | cut -f1) large, $(du -ch "$ROOT"/disks/*.img | tail -1 | cut -f1) in use" \
    "shipped" "$(numfmt --to=iec-i --suffix=B "$shipped")" \
    "vault" "$(du -sh "$ROOT/target" | cut -f1)" \
    "RPO under load" "$rpo s" \
    "proven" "$(numfmt --to=iec-i --suffix=B "$proven")"
echo "verified"
