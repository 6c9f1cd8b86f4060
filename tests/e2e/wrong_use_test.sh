#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Wrong use gets one clear line and its own exit code, and loses nothing.
. "$(dirname "$0")/lib.sh" "$@"
NOT_FOUND=3 UNREACHABLE=5 WRONG_KEY=6 CORRUPT=7 BUSY=8

enable_vm web 16M os
say "names, files, formats"
expect_exit $NOT_FOUND 'no VM' A status nowhere
expect_exit $NOT_FOUND 'no VM' A mount nowhere "$TMP"
expect_exit 2 'name' A enable 'Bad Name' --disk "os=$TMP/disks/os.raw" --cache "file://$TMP/c" --target "file://$TMP/t"
expect_exit $NOT_FOUND 'missing.raw' A enable two --disk "os=$TMP/missing.raw" --cache "file://$TMP/c" --target "file://$TMP/t"
printf 'QFI\373\0\0\0\3' >"$TMP/disks/q.qcow2"
truncate -s 1M "$TMP/disks/q.qcow2"
expect_exit 2 'qemu-img convert' A enable two --disk "os=$TMP/disks/q.qcow2" --cache "file://$TMP/c" --target "file://$TMP/t"
expect_exit 1 'enabled already' A enable web --disk "os=$TMP/disks/os.raw" --cache "file://$TMP/cache" --target "file://$TMP/target"
expect_exit 2 'verb' A stauts

say "stores: unwritable, unreachable"
mkdir "$TMP/file-not-folder.d"
touch "$TMP/plain"
truncate -s 1M "$TMP/disks/three.raw"
expect_exit_any() { local got=0; "$@" >"$TMP/out" 2>"$TMP/err" || got=$?; [ $got -ne 0 ] && [ "$(wc -l <"$TMP/err")" -eq 1 ] || { cat "$TMP/err"; fail "$*"; }; }
expect_exit_any A enable three --disk "os=$TMP/disks/three.raw" --cache "file://$TMP/plain/x" --target "file://$TMP/t3"
expect_exit_any A enable three --disk "os=$TMP/disks/three.raw" --cache "nope://x" --target "file://$TMP/t3"

say "second mount, mount point in use"
mount_vm web
mkdir "$TMP/other"
expect_exit $BUSY 'mounted' A mount web "$TMP/other"
truncate -s 16M "$TMP/disks/vier.raw"
A enable vier --disk "os=$TMP/disks/vier.raw" --cache "file://$TMP/cache" --target "file://$TMP/target" >/dev/null
expect_exit $BUSY 'mount' A mount vier "$TMP/src"
expect_exit $BUSY 'mounted' A disable web
exec 7<"$TMP/src/os.img"
expect_exit $BUSY 'is in use and stays mounted' A unmount "$TMP/src"
exec 7<&-
"$ORACLE" write "$TMP/log" 3 2 9 "$TMP/src/os.img"

say "the cache store goes away: the guest does not notice, the state says so, and it recovers"
mv "$TMP/cache" "$TMP/cache.away"
dd if=/dev/urandom of="$TMP/src/os.img" bs=64k count=4 conv=notrunc,fsync status=none
for i in $(seq 40); do
    [ "$(A status web --json | jq -r '.vms[0].state')" != stalled ] || break
    sleep 1
done
[ "$(A status web --json | jq -r '.vms[0].state')" = stalled ] || fail "the state does not say stalled"
mv "$TMP/cache.away" "$TMP/cache"
sleep 1 <"$TMP/src/os.img" & # what uses it still is about to end
A unmount "$TMP/src" --wait --timeout 90

say "written behind its back: noticed, resynced, equal again"
dd if=/dev/urandom of="$TMP/disks/os.raw" bs=4096 seek=1000 count=3 conv=notrunc status=none
mount_vm web
join_vm web
point=$(A point web --wait)
B process web --once >/dev/null
mkdir "$TMP/rec"
B recover "$TMP/rec" --vm web
cmp "$TMP/rec/web/points/$point/os.img" "$TMP/disks/os.raw"
umount "$TMP/rec"
A unmount "$TMP/src" --wait

say "written behind a mount that died: the same"
A mount web "$TMP/src"
A point web --wait >/dev/null
kill_host a web
sleep 0.5
dd if=/dev/urandom of="$TMP/disks/os.raw" bs=4096 seek=2600 count=3 conv=notrunc status=none
A mount web "$TMP/src"
point=$(A point web --wait)
B process web --once >/dev/null
B recover "$TMP/rec" --vm web
cmp "$TMP/rec/web/points/$point/os.img" "$TMP/disks/os.raw"
umount "$TMP/rec"
A unmount "$TMP/src" --wait

say "shrunk, missing"
truncate -s 8M "$TMP/disks/os.raw"
expect_exit 2 'shrunk' A mount web "$TMP/src"
truncate -s 16M "$TMP/disks/os.raw"
mv "$TMP/disks/os.raw" "$TMP/disks/os.away"
expect_exit $NOT_FOUND 'os.raw' A mount web "$TMP/src"
mv "$TMP/disks/os.away" "$TMP/disks/os.raw"

say "wrong key, corrupt object, another version"
mkdir "$TMP/rec2"
head -c 32 /dev/urandom | xxd -p -c 64 >"$TMP/wrong.key"
chmod 600 "$TMP/wrong.key"
expect_exit $WRONG_KEY 'key' env FARSHORE_CONFIG="$TMP/c/config" FARSHORE_STATE="$TMP/c/state" FARSHORE_RUN="$TMP/c/run" \
    "$FARSHORE" join "file://$TMP/target" --key "$TMP/wrong.key" --vm web
segment=$(find "$TMP/target/web/segments" -type f -size +64k | head -n 1)
cp "$segment" "$TMP/segment"
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=30000 conv=notrunc status=none
found=0
for id in $(point_ids web); do
    B verify web --point "$id" >/dev/null 2>"$TMP/err" || { found=$?; break; }
done
[ $found -eq $CORRUPT ] || fail "damage was not found (exit $found): $(cat "$TMP/err")"
says 'marked as damaged' <"$TMP/err" || fail "it is not marked: $(cat "$TMP/err")"
marked() { [ "$(B points web --json | jq -r ".points[] | select(.id == \"$1\") | .damaged")" = true ]; }
marked "$id" || fail "points does not mark $id"
B points web | says "^$id .*DAMAGED" || fail "people are not shown that $id is damaged"
cp "$TMP/segment" "$segment"
B verify web --point "$id" >/dev/null
! marked "$id" || fail "$id is whole again, and marked"
# Who reads it on a recovery mount marks it, too, and gets none of it.
printf '\377\377\377\377' | dd of="$segment" bs=1 seek=30000 conv=notrunc status=none
B recover "$TMP/rec2" --vm web
cat "$TMP/rec2/web/points/$id/os.img" >/dev/null 2>"$TMP/err" && fail "damage was served"
marked "$id" || fail "nobody marked $id: $(cat "$TMP/b/state/"*.log)"
B unmount "$TMP/rec2"
cp "$TMP/segment" "$segment"
B verify web --point "$id" >/dev/null
B verify web >/dev/null
cp "$TMP/target/web/vault" "$TMP/vault"
printf '\377' | dd of="$TMP/target/web/vault" bs=1 seek=8 conv=notrunc status=none
expect_exit $CORRUPT 'version' B points web
cp "$TMP/vault" "$TMP/target/web/vault"
B points web >/dev/null

say "a vault rolled back below what a host has seen"
newest=$(find "$TMP/target/web/history" -type f | sort | tail -n 1)
cp "$newest" "$TMP/record"
rm "$newest"
expect_exit $CORRUPT 'rolled back below what this host has seen' B points web
expect_exit $CORRUPT 'rolled back' B recover "$TMP/rec2" --vm web
expect_exit $CORRUPT 'rolled back' B process web --once
C() { FARSHORE_CONFIG=$TMP/c/config FARSHORE_STATE=$TMP/c/state FARSHORE_RUN=$TMP/c/run "$FARSHORE" "$@"; }
C join "file://$TMP/target" --key "$TMP/a/config/keys/web.key" --vm web | says 'the vault was last written .* ago' || fail "join says nothing of the vault's age"
C points web >/dev/null
cp "$TMP/record" "$newest"
B points web >/dev/null
say "passed"
