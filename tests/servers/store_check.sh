#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Over Azurite: what store check and enable say of every kind of trouble, that no
# secret is in what is said or kept, that a store which hangs holds no process, and that a purge
# leaves nothing behind.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
FAILED=1 USAGE=2 UNREACHABLE=5
account=$FARSHORE_TEST_ENDPOINT/farcache
(umask 077; printf 'AZURE_STORAGE_KEY=%s\n' "$(head -c 64 /dev/urandom | base64 -w0)" >"$FARSHORE_CREDENTIALS/wrong")

# Everything that was said is kept, to look for secrets in it.
said() { local got=0; "$@" >>"$TMP/said.log" 2>&1 || got=$?; return $got; }

say "what is wrong with a store is said, and how to go on"
expect_exit $USAGE 'cannot be used as processor: create, list' A store check "$CACHE"
grep -q 'ContainerNotFound: .*enable makes it' "$TMP/out" || fail "$(cat "$TMP/out")"
said A store check "$CACHE" --create
said A store check "$CACHE" --role source --json
expect_exit $FAILED 'cannot be used' A store check "azure://farcache/cache?endpoint=$account&credential=wrong"
cat "$TMP/out" "$TMP/err" >>"$TMP/said.log"
grep -q "credentials from $FARSHORE_CREDENTIALS/wrong" "$TMP/out" || fail "$(cat "$TMP/out")"
expect_exit $UNREACHABLE 'cannot be used' A store check "azure://farcache/cache?endpoint=http://127.0.0.1:1/farcache"
expect_exit $USAGE 'plain=yes' A store check "azure://farcache/cache?endpoint=http://192.0.2.1/farcache"
expect_exit $USAGE 'it has endpoint' A store check "azure://farcache/cache?endpont=$account"

say "enable says which store and which property"
mkdir "$TMP/disks" "$TMP/src" "$TMP/rec"
truncate -s 16M "$TMP/disks/os.raw"
enable_web() { A enable web --disk "os=$TMP/disks/os.raw" --cache "$1" --target "$2"; }
expect_exit $FAILED 'the target store: .*"create" fails' enable_web "$CACHE" "$TARGET&credential=wrong"
cat "$TMP/err" >>"$TMP/said.log"
expect_exit $UNREACHABLE 'the cache store' enable_web "azure://farcache/cache?endpoint=http://127.0.0.1:1/farcache" "$TARGET"
said enable_web "$CACHE" "$TARGET"

say "the whole way, then a store that hangs: processor and recovery mount end all the same"
said A mount web "$TMP/src"
head -c 4M /dev/urandom | dd of="$TMP/src/os.img" conv=notrunc status=none
point=$(A point web --wait)
said B join "$TARGET" --key "$TMP/a/config/keys/web.key"
b exec "$FARSHORE" process web --interval 1 >"$TMP/process.log" 2>&1 &
processor=$!
PIDS+=($processor)
wait_for 30 grep -q "$point" "$TMP/process.log"
said B recover "$TMP/rec"
cmp "$TMP/rec/web/points/$point/os.img" "$TMP/disks/os.raw"
said A status web --json
said B status web
for pid in $(pgrep -f "$TMP/"); do tr '\0' ' ' <"/proc/$pid/cmdline" >>"$TMP/said.log"; done
server=$(pgrep -P "$FARSHORE_TEST_PID" node)
kill -STOP "$server"
sleep 2 # for both to have asked it something
kill -TERM $processor
umount "$TMP/rec"
timeout 15 tail --pid=$processor -f /dev/null || fail "the processor does not end"
wait $processor || fail "the processor ended with $?"
gone() { ! pgrep -f "recover $TMP/rec" >/dev/null; }
wait_for 15 gone
kill -CONT "$server"
said A unmount "$TMP/src" --wait

say "no secret was said or kept"
secrets=$(sed -n 's/^AZURE_STORAGE_KEY=//p' "$FARSHORE_CREDENTIALS"/*)
[ "$(wc -l <<<"$secrets")" -eq 3 ] || fail "not the three keys that were meant"
! grep -rlF -e "$secrets" "$TMP/a" "$TMP/b" "$TMP"/*.log || fail "a key is in one of these files"

say "a purge leaves nothing in either store"
said A disable web --purge --yes web
# Nothing is left to join, and a name that was purged is free.
expect_exit 3 'no VM in' B join "$TARGET" --key "$TMP/b/config/keys/web.key"
said enable_web "$CACHE" "$TARGET"
say "passed"
