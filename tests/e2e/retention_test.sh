#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Points are thinned out while a source writes and readers read: what stays is a cut under the
# oracle, a point that is read or written stays whole, and the space comes back.
. "$(dirname "$0")/lib.sh" "$@"

mkdir "$TMP/disks"
truncate -s 8M "$TMP/disks/os.raw" "$TMP/disks/data.raw"
A enable web --disk "os=$TMP/disks/os.raw" --disk "data=$TMP/disks/data.raw,target=file://$TMP/target2" \
    --cache "$CACHE" --target "$TARGET"
A set web cut_interval=1
mount_vm web
join_vm web

say "the policy lies in the vault, and what is wrong of it is refused"
[ "$(B policy web | head -n 1)" = keep=2h:all,1d:5m,7d:1h,30d:1d ] || fail "another default"
B policy web keep=5m:all,6m:3s application=1 grace=1s
[ "$(A policy web --json | jq -r '.keep, .application, .grace' | paste -sd' ')" = "5m:all,6m:3s 1 1s" ] ||
    fail "the policy reads back otherwise"
! B policy web keep=3s 2>"$TMP/err" || fail "a wrong policy was taken"
grep -q "is no tier" "$TMP/err" || fail "$(cat "$TMP/err")"

"$ORACLE" write "$TMP/log" 60 4 "${SEED:-1}" "$TMP/src/os.img" "$TMP/src/data.img" &
writer=$!
PIDS+=($writer)
first=$(A point web --wait)
B process web --once
mkdir -p "$TMP/rec" "$TMP/rec2"
B recover "$TMP/rec"
exec 9<"$TMP/rec/web/points/$first/os.img" # open, and read at the very end only
start_processor web "$TMP/process.log"
second=$(A point web --wait=target)
B recover "$TMP/rec2" --writable drill 9<&-
echo written | dd of="$TMP/rec2/web/points/$second/os.img" conv=notrunc,fsync status=none
B policy web keep=2s:all,6s:3s >/dev/null # now that both are in use
for _ in $(seq 18); do
    A point web --wait >/dev/null
    sleep 0.5
done
touch "$TMP/log.stop"
wait $writer
final=$(A point web --wait=target)
kill $processor
wait $processor

say "points went, the newest and those in use did not"
B gc web --wait | tee "$TMP/gc"
made=$(B points web --json | jq '.points[-1].epoch')
count=$(point_ids web | wc -l)
[ "$count" -lt $((made * 2 / 3)) ] || fail "$count points of $made are left"
for id in "$first" "$second" "$final"; do
    point_ids web | says -x "$id" || fail "$id is gone"
done
check_points web "$TMP/rec" "$TMP/log" os data
cmp "$TMP/rec/web/points/$final/os.img" "$TMP/src/os.img"
B verify web --point "$first"
exec 8<"$TMP/rec/web/points/$first/os.img"
cmp /dev/fd/9 /dev/fd/8 || fail "the open image reads otherwise"
"$ORACLE" check "$TMP/log" 0 /dev/fd/9 "$TMP/rec/web/points/$first/data.img" >/dev/null || fail "the open image is no cut"
exec 8<&- 9<&-
[ "$(head -c 7 "$TMP/rec2/web/points/$second/os.img")" = written ] || fail "the overlay is lost"

umount "$TMP/rec"
ended() { ! pgrep -f "recover $TMP/rec\$" >/dev/null; }
wait_for 20 ended # its leases go last

say "a round without changes says what would go, and changes nothing"
B policy web keep=1s:all application=0
find "$TMP/target" "$TMP/target2" -type f | sort >"$TMP/before"
B gc web --dry-run --json | tee "$TMP/dry"
find "$TMP/target" "$TMP/target2" -type f | sort | cmp - "$TMP/before" || fail "--dry-run changed the store"
[ "$(jq .points_leaving "$TMP/dry")" -ge 1 ] || fail "no point would leave"

say "the space comes back"
fallocate -p -o 0 -l 8M "$TMP/src/os.img"
fallocate -p -o 0 -l 8M "$TMP/src/data.img"
sleep 1
A point web --wait >/dev/null
sleep 1
A unmount "$TMP/src"
B process web --once
umount "$TMP/rec2"
stored() { du -scb "$TMP"/target*/web/segments | tail -n 1 | cut -f1; }
before=$(stored)
B gc web --wait --json >"$TMP/gc"
after=$(stored)
[ "$(jq .waiting "$TMP/gc")" = false ] || fail "gc --wait did not wait"
echo "$before bytes, then $after; $(jq -c . "$TMP/gc")"
[ -d "$TMP/target2/web/segments" ] || fail "nothing lay in the disk's own store"
[ "$after" -lt $((before / 2)) ] || fail "no space came back"
[ "$(B gc web --json | jq '.points_gone + .objects_dropped + .objects_removed')" = 0 ] ||
    fail "a second round finds something"
point_ids web | says -x "$second" || fail "the held point is gone"
B verify web --point "$second"
B verify web --point latest
