#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job under the oracle: two disks written at once, at random and in sequence; at least 200
# epochs cut under load; every point opened and found to be a cut. Then a writable view, and the
# vault unchanged by it.
. "$(dirname "$0")/lib.sh" "$@"

enable_vm web 16M os data
mount_vm web
say "writers on two disks, cuts every second and whenever asked"
SEED=${SEED:-$RANDOM}
"$ORACLE" write "$TMP/log" 300 8 "$SEED" "$TMP/src/os.img" "$TMP/src/data.img" &
writer=$!
PIDS+=($writer)
echo "seed $SEED"
join_vm web
start_processor web "$TMP/process.log"
for i in $(seq 210); do
    A point web --wait >>"$TMP/asked"
    [ $((i % 50)) -ne 0 ] || echo "$i points asked for"
done
before_ms=$(date +%s%3N)
last=$(A point web --wait --label last)
touch "$TMP/log.stop"
wait $writer
final=$(A point web --wait=target)
kill $processor
wait $processor
B process web --once

count=$(point_ids web | wc -l)
[ "$count" -ge 200 ] || fail "only $count points"
[ "$(B points web --json | jq '[.points[].id] == ([.points[].id] | sort | unique)')" = true ] ||
    fail "point ids do not rise"
missing=$(comm -23 <(sort "$TMP/asked") <(point_ids web | sort))
[ -z "$missing" ] || fail "points asked for are not listed: $missing"

mkdir -p "$TMP/rec"
B recover "$TMP/rec"
check_points web "$TMP/rec" "$TMP/log" os data
say "the point asked for at $before_ms shows everything acknowledged before"
"$ORACLE" check "$TMP/log" "$before_ms" "$TMP/rec/web/points/$last"/{os,data}.img
say "the last one equals the disks byte for byte"
for disk in os data; do
    cmp "$TMP/rec/web/points/$final/$disk.img" "$TMP/src/$disk.img"
    cmp "$TMP/rec/web/latest/$disk.img" "$TMP/disks/$disk.raw"
done
say "the oracle finds a lost write (it can fail)"
cp "$TMP/disks/os.raw" "$TMP/lost.raw"
for block in $(seq 0 40); do
    dd if="$TMP/rec/web/points/$(point_ids web | head -n 20 | tail -n 1)/os.img" of="$TMP/lost.raw" \
        bs=4096 skip="$block" seek="$block" count=1 conv=notrunc status=none
done
! "$ORACLE" check "$TMP/log" 0 "$TMP/lost.raw" "$TMP/disks/data.raw" >/dev/null ||
    fail "the oracle accepted old blocks among new ones"

say "read-only means EROFS"
image=$TMP/rec/web/points/$final/os.img
! touch "$image" 2>/dev/null || fail "touched a read-only image"
! dd if=/dev/zero of="$image" bs=4096 count=1 conv=notrunc 2>"$TMP/err" || fail "wrote a read-only image"
grep -qi 'read-only' "$TMP/err" || fail "$(cat "$TMP/err")"
umount "$TMP/rec"

say "a writable view is durable and apart"
vault() { (cd "$TMP/target" && find . -type f -not -path '*/pins/*' -not -path '*/.tmp/*' -print0 | sort -z | xargs -0 sha256sum | sha256sum); }
sum=$(vault)
B recover "$TMP/rec" --writable drill
written=("$TMP/rec/web/points/$last"/{os,data}.img)
for image in "${written[@]}"; do fallocate --punch-hole --length 16M "$image"; done # of what the others wrote
"$ORACLE" write "$TMP/drill" 3 2 1 "${written[@]}" >/dev/null
printf 'a drill was here' | dd of="$TMP/rec/web/points/$final/os.img" bs=1 seek=123457 conv=notrunc,fsync status=none
umount "$TMP/rec"
B recover "$TMP/rec" --writable drill
[ "$(dd if="$TMP/rec/web/points/$final/os.img" bs=1 skip=123457 count=16 status=none)" = 'a drill was here' ] ||
    fail "the view forgot what was written to it"
"$ORACLE" check "$TMP/drill" "$(date +%s%3N)" "${written[@]}"
umount "$TMP/rec"
B recover "$TMP/rec" --writable other
cmp "$TMP/rec/web/points/$final/os.img" "$TMP/disks/os.raw"
umount "$TMP/rec"
[ "$(vault)" = "$sum" ] || fail "a writable view changed the vault"
A unmount "$TMP/src" --wait
say "passed: $count points"
