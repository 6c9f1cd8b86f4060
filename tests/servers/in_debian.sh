#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# in_debian.sh SOURCE_FOLDER BINARY TEST...: the named end-to-end tests in a machine of their own, an
# emulated one, that boots Debian with its own kernel. There root has every capability, memory is
# bounded by control groups of version 2, and the kernel, 6.1, cannot send FUSE requests again. A TEST
# may have words of its environment before it: "KILLS=50 mount_kill". One that is skipped there has
# failed. For the long set; within IN_DEBIAN_SECONDS (3600) it has to be through.
set -euo pipefail
SOURCE=$1 FARSHORE=$2
shift 2
GUEST=$SOURCE/build/debian
MACHINE=
TMP=$(mktemp -d "${TMPDIR:-/tmp}/farshore-debian.XXXXXX")
trap '[ -z "$MACHINE" ] || kill -KILL $MACHINE 2>/dev/null || true; rm -rf --one-file-system "$TMP"' EXIT
trap 'exit 1' INT TERM

bash "$SOURCE/tests/support/guest/make.sh" "$SOURCE/build/guest"
bash "$SOURCE/tests/support/guest/debian.sh" "$GUEST" "$SOURCE/build/guest"

# Its second disk: the tests as they lie here, the programs, and room.
mkdir -p "$TMP/disk/build/tests" "$TMP/disk/tmp"
cp -r "$SOURCE/tests" "$TMP/disk/"
cp "$FARSHORE" "$TMP/disk/build/"
find "$(dirname "$FARSHORE")/tests" -maxdepth 1 -type f ! -name '*.*' -exec cp -t "$TMP/disk/build/tests" {} +
cp "$(dirname "$FARSHORE")/tests/libfaulty_io.so" "$TMP/disk/build/tests/"
printf '%s\n' "$@" >"$TMP/disk/list"
truncate -s 8G "$TMP/disk.img"
mkfs.ext4 -q -d "$TMP/disk" "$TMP/disk.img"

run='mount /dev/vdb /mnt; exec bash /mnt/tests/support/guest/tests.sh'
setpriv --pdeathsig KILL qemu-system-x86_64 -cpu max -smp 2 -m 1024 -nographic -no-reboot -nic none \
    -kernel "$GUEST/vmlinuz" -initrd "$GUEST/initrd.img" \
    -append "root=/dev/vda rw console=ttyS0 quiet panic=1 systemd.run=\"/bin/sh -ec '$run'\"" \
    -drive "file=$GUEST/root.img,if=virtio,format=raw,snapshot=on" \
    -drive "file=$TMP/disk.img,if=virtio,format=raw,cache=unsafe" >"$TMP/console" 2>&1 </dev/null &
MACHINE=$!
end=$((SECONDS + ${IN_DEBIAN_SECONDS:-3600}))
while kill -0 "$MACHINE" 2>/dev/null && [ $SECONDS -lt $end ]; do sleep 1; done
tr -d '\r' <"$TMP/console"
for test in "$@"; do
    grep -qF "IN DEBIAN $test: exit 0," "$TMP/console" || { echo "FAILED: $test" >&2; exit 1; }
done
