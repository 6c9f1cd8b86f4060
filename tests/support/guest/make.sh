#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# make.sh FOLDER: the tests' guest, a machine of 256 MiB without a disk of its own. It boots in
# seconds also where the processor is emulated. FOLDER/vmlinuz, FOLDER/initrd.img, with the guest
# agent FOLDER/initrd-agent.img (when qemu-ga is installed), and FOLDER/counter for the host. They
# are made once, and again when what they are made of is newer.
# Exit 77 says what is missing.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
FOLDER=$1
NEW=$FOLDER.new.$$

missing() { echo "SKIP: no $1 for the tests' guest (package $2)"; exit 77; }
KERNEL=$(find /boot -name 'vmlinuz-*cloud-amd64' | sort -V | tail -1)
[ -n "$KERNEL" ] || missing "kernel" linux-image-cloud-amd64
[ -x /bin/busybox ] && file_is_static=$(ldd /bin/busybox 2>&1 || true)
case ${file_is_static:-} in *"not a dynamic"*) ;; *) missing "static busybox" busybox-static ;; esac
command -v cpio >/dev/null || missing cpio cpio

made() {
    [ -e "$FOLDER/vmlinuz" ] && [ "$FOLDER" -nt "$KERNEL" ] || return 1
    for part in "$HERE"/*; do [ "$FOLDER" -nt "$part" ] || return 1; done
    [ ! -x /usr/sbin/qemu-ga ] || [ -e "$FOLDER/initrd-agent.img" ]
}

pack() { (cd "$1" && find . | cpio -o -H newc --quiet -R 0:0 | gzip -1); } # FOLDER

MODULES=(
    drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_modern_dev
    drivers/virtio/virtio_pci_legacy_dev drivers/virtio/virtio_pci drivers/block/virtio_blk
    net/core/failover drivers/net/net_failover drivers/net/virtio_net drivers/char/virtio_console
    drivers/input/evdev drivers/acpi/button
)

make_guest() {
    local root=$NEW/root agent=$NEW/agent module modules library
    modules=/lib/modules/${KERNEL#*/vmlinuz-}/kernel
    mkdir -p "$root"/{bin,proc,sys,dev,mnt,etc,modules} "$agent/bin"
    cp "$KERNEL" "$NEW/vmlinuz"
    cp /bin/busybox "$root/bin/"
    cc -O2 -static -o "$root/bin/counter" "$HERE/counter.c"
    cp "$root/bin/counter" "$NEW/counter"
    cp "$HERE/init.sh" "$root/init"
    for module in "${MODULES[@]}"; do
        cp "$modules/$module.ko" "$root/modules/"
        echo "${module##*/}.ko" >>"$root/modules/order"
    done
    cat >"$root/etc/udhcpc.sh" <<'DHCP'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add "$ip/${mask:-24}" dev "$interface"
echo "GUEST ADDRESS $interface $ip/${mask:-24}" >/dev/console
DHCP
    chmod 755 "$root/init" "$root/etc/udhcpc.sh"
    pack "$root" >"$NEW/initrd.img"
    if [ -x /usr/sbin/qemu-ga ]; then
        cp /usr/sbin/qemu-ga "$agent/bin/"
        ldd /usr/sbin/qemu-ga | grep -o '/[^ ]*' | while read -r library; do
            mkdir -p "$agent$(dirname "$library")"
            cp -L "$library" "$agent$library"
        done
        # Archives one behind the other: the kernel unpacks both.
        { cat "$NEW/initrd.img"; pack "$agent"; } >"$NEW/initrd-agent.img"
    fi
    rm -rf "$root" "$agent"
}

mkdir -p "$(dirname "$FOLDER")"
exec 9>"$FOLDER.lock" # another run may be at it: then it is there when we get the lock
flock 9
if ! made; then
    trap 'rm -rf "$NEW"' EXIT
    mkdir "$NEW"
    make_guest
    chmod -R a+rX "$NEW"
    rm -rf "$FOLDER"
    mv "$NEW" "$FOLDER"
fi
