#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Two disks with two cache and two target stores of their own; then what the source may reach: it
# runs in a network namespace with nothing in it, and listens on nothing.
. "$(dirname "$0")/lib.sh" "$@"

mkdir -p "$TMP/disks"
truncate -s 16M "$TMP/disks/one.raw" "$TMP/disks/two.raw"
A enable duo --disk "one=$TMP/disks/one.raw,cache=file://$TMP/cache1,target=file://$TMP/target1" \
    --disk "two=$TMP/disks/two.raw,cache=file://$TMP/cache2,target=file://$TMP/target2" \
    --cache "file://$TMP/cache" --target "file://$TMP/target"
# shellcheck disable=SC2034
key=$TMP/a/config/keys/duo.key
mkdir -p "$TMP/src" "$TMP/rec"
say "the source in a network namespace of its own"
a unshare --net "$FARSHORE" mount duo "$TMP/src" --cut-interval 1
pid=$(A status duo --json | jq '.vms[0].worker_pid')
sockets=$(nsenter --net="/proc/$pid/ns/net" ss -Hlntu | wc -l)
[ "$sockets" -eq 0 ] || fail "the source listens on $sockets network sockets"
[ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail "not in a namespace"

"$ORACLE" write "$TMP/log" 60 4 5 "$TMP/src/one.img" "$TMP/src/two.img" &
writer=$!
PIDS+=($writer)
join_vm duo
for i in $(seq 12); do A point duo --wait >/dev/null; B process duo --once >/dev/null; done
# A big epoch: its frames go as parts, each disk's to its own stores.
head -c 12M /dev/urandom >"$TMP/big"
touch "$TMP/log.stop"
wait $writer
A point duo --wait >/dev/null
B process duo --once >/dev/null
B recover "$TMP/rec"
check_points duo "$TMP/rec" "$TMP/log" one two
dd if="$TMP/big" of="$TMP/src/one.img" bs=1M conv=notrunc status=none
dd if="$TMP/big" of="$TMP/src/two.img" bs=1M conv=notrunc status=none
point=$(A point duo --wait)
for n in 1 2; do
    [ "$(find "$TMP/cache$n" -type f -path '*/parts/*' | wc -l)" -ge 1 ] || fail "cache $n holds no part"
done
B process duo --once >/dev/null
for n in 1 2; do
    [ "$(find "$TMP/target$n" -type f -path '*/segments/*' | wc -l)" -ge 1 ] || fail "target $n holds no segment"
    [ "$(find "$TMP/cache$n" -type f -path '*/parts/*' | wc -l)" -eq 0 ] || fail "cache $n keeps applied parts"
done
wait_for 30 test -e "$TMP/rec/duo/points/$point"
cmp "$TMP/rec/duo/points/$point/one.img" "$TMP/disks/one.raw"
cmp "$TMP/rec/duo/points/$point/two.img" "$TMP/disks/two.raw"
umount "$TMP/rec"
A unmount "$TMP/src" --wait
say "passed"
