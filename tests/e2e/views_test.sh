#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Writable views (case 20): two of one point at once, each on a mount of its own; one is written from
# end to end; its process is killed, and it is mounted again; what it keeps here is removed, also
# below a mount in use. Nothing of that changes the vault, or the other view. And of a read-only view
# every change is refused as such.
. "$(dirname "$0")/lib.sh" "$@"
SIZE=16M
vault() { (cd "$TMP/target" && find . -type f -not -path '*/pins/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
recover() { mkdir -p "$TMP/$1"; B recover "$TMP/$1" "${@:2}"; }
image() { echo "$TMP/$1/web/points/$point/os.img"; }
# The pins of the view of that name; its leases, beside them, come and go.
holds() { find "$TMP/target/web/pins" -type f ! -name 'lease-*' | wc -l; }
ended() { ! pgrep -f "recover $TMP/$1" >/dev/null; }
same() { cmp "$1" "$2" || fail "$3"; }

say "a point, and a later one"
enable_vm web $SIZE os >/dev/null
mount_vm web
head -c 6M /dev/urandom | dd of="$TMP/src/os.img" bs=1M seek=2 conv=notrunc,fsync status=none
point=$(A point web --wait)
cp --sparse=always "$TMP/src/os.img" "$TMP/truth"
head -c 9M /dev/urandom | dd of="$TMP/src/os.img" bs=1M seek=4 conv=notrunc,fsync status=none
later=$(A point web --wait)
cp --sparse=always "$TMP/src/os.img" "$TMP/later"
join_vm web >/dev/null
B process web --once >/dev/null
sum=$(vault)

say "two writable views of it at once; one is written from end to end"
recover rec-one --writable one
recover rec-two --writable two
head -c $SIZE /dev/urandom >"$TMP/filled"
cp "$TMP/truth" "$TMP/touched"
dd if="$TMP/filled" of="$(image rec-one)" bs=64k conv=notrunc,fsync status=none & filling=$!
for block in 0 700 2047 3000 4095; do
    for file in "$(image rec-two)" "$TMP/touched"; do
        echo "of two $block" | dd of="$file" bs=4096 seek=$block conv=notrunc,fsync status=none
    done
done
wait $filling
same "$(image rec-one)" "$TMP/filled" "the filled view is not what was written"
same "$(image rec-two)" "$TMP/touched" "the other view is not what was written"
same "$TMP/rec-one/web/points/$later/os.img" "$TMP/later" "another point changed"
[ "$(holds)" -eq 2 ] || fail "$(holds) holds for two views"

say "killed behind an fsync, and mounted again"
pkill -KILL -f "recover $TMP/rec-one"
wait_for 20 ended rec-one
recover rec-one --writable one
same "$(image rec-one)" "$TMP/filled" "the killed view forgot what was synced"
same "$(image rec-two)" "$TMP/touched" "a view that died took the other along"
[ "$(vault)" = "$sum" ] || fail "the vault changed"

say "what one keeps here is removed: it begins anew, the other goes on"
umount "$TMP/rec-one"
wait_for 20 ended rec-one
rm -r "$TMP/b/state/scratch/one"
recover rec-one --writable one
same "$(image rec-one)" "$TMP/truth" "a view begun anew is not the point"
echo again | dd of="$(image rec-one)" bs=4096 seek=9 conv=notrunc,fsync status=none
same "$(image rec-two)" "$TMP/touched" "the other view changed"

say "and below a mount in use: never wrong data, and the next mount is the point"
rm -r "$TMP/b/state/scratch/two"
if cp "$(image rec-two)" "$TMP/seen" 2>"$TMP/err"; then
    same "$TMP/seen" "$TMP/touched" "wrong data was served"
else
    says 'Input/output error' <"$TMP/err" || fail "it says: $(cat "$TMP/err")"
fi
umount "$TMP/rec-two"
recover rec-two --writable two
same "$(image rec-two)" "$TMP/truth" "a view begun anew is not the point"

# Each line of the input, as a command at the point.
each_is_refused() { # MOUNT
    local change
    while read -r change; do
        ! (cd "$TMP/$1/web/points/$point" && eval "$change") >/dev/null 2>"$TMP/err" || fail "done: $change"
        says 'Read-only file system' <"$TMP/err" || fail "$change: $(cat "$TMP/err")"
    done
}
export LC_ALL=C
say "read-only means EROFS to everything, and of a writable view all but its disks is read-only"
tree='touch new
rm -f os.img
mv os.img other
ln os.img hard
ln -s os.img soft
mkdir folder
rmdir ../../points
mkfifo fifo'
each_is_refused rec-two <<<"$tree"
umount "$TMP/rec-one" "$TMP/rec-two"
[ "$(vault)" = "$sum" ] || fail "the vault changed"
recover rec
each_is_refused rec <<<"$tree"
each_is_refused rec <<'CHANGES'
dd if=/dev/zero of=os.img bs=4096 count=1 conv=notrunc
truncate -s 1M os.img
truncate -s 64M os.img
fallocate -p -o 0 -l 4096 os.img
touch os.img
chmod 600 os.img
chown 1:1 os.img
CHANGES
same "$(image rec)" "$TMP/truth" "the read-only view changed"
B verify web --point "$point" >/dev/null
say "passed"
