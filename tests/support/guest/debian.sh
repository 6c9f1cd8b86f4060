#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# debian.sh FOLDER: a real Debian as the tests' guest, for the long set: FOLDER/root.img, an ext4
# root with systemd in which counter.c runs as a service on a file, and which has what farshore and its
# end-to-end tests need; FOLDER/vmlinuz and FOLDER/initrd.img, its own, for domain.sh with
# FARSHORE_GUEST=FOLDER. Made by debootstrap from the host's mirror, and again when this script is
# newer. Needs the counter of make.sh: FOLDER of that as the second argument.
set -euo pipefail
FOLDER=$1 COUNTER=$2/counter
PACKAGES=(
    linux-image-cloud-amd64 systemd-sysv
    libcurl4 libcjson1 libxml2 libvirt0 libfuse3-3 fuse3 procps jq fio xxd gcc libc6-dev xfsprogs
)
exec 9>"$FOLDER.lock" # another run may be at it
flock 9
[ ! "$FOLDER/root.img" -nt "$0" ] || exit 0
NEW=$FOLDER.new
ROOT=$NEW/root
unmount() { { findmnt -rno TARGET | grep "^$ROOT/" || true; } | tac | xargs -r -n1 umount; } # what debootstrap mounts
clear_away() { unmount; rm -rf --one-file-system "$NEW"; }
clear_away # of one that was killed
mkdir -p "$NEW"
trap clear_away EXIT
debootstrap --variant=minbase --include="$(IFS=,; echo "${PACKAGES[*]}")" \
    "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$ROOT" >"$NEW/log" 2>&1 ||
    { tail -20 "$NEW/log" >&2; exit 1; }
unmount
cp "$ROOT"/boot/vmlinuz-* "$NEW/vmlinuz"
cp "$ROOT"/boot/initrd.img-* "$NEW/initrd.img"
install -m 755 "$COUNTER" "$ROOT/usr/local/bin/counter"
echo debian-guest >"$ROOT/etc/hostname"
echo '/dev/vda / ext4 errors=panic 0 1' >"$ROOT/etc/fstab"
cat >"$ROOT/etc/systemd/system/counter.service" <<'UNIT'
[Service]
ExecStart=/bin/sh -c 'exec /usr/local/bin/counter run 200 0 /var/lib/count >/dev/ttyS0'
[Install]
WantedBy=multi-user.target
UNIT
mkdir -p "$ROOT/etc/systemd/system/multi-user.target.wants"
ln -s ../counter.service "$ROOT/etc/systemd/system/multi-user.target.wants/"
# A login there would hang up on the counter.
ln -s /dev/null "$ROOT/etc/systemd/system/serial-getty@ttyS0.service"
rm -rf "$ROOT"/var/cache/apt/* "$ROOT"/var/lib/apt/lists/* "$ROOT"/dev/*
truncate -s 2G "$NEW/root.img"
mkfs.ext4 -q -d "$ROOT" "$NEW/root.img"
rm -rf --one-file-system "$ROOT"
chmod -R a+rX "$NEW"
rm -rf "$FOLDER"
mv "$NEW" "$FOLDER"
