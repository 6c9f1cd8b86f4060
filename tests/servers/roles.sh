#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Each process with the credential of its role alone: the source runs whole on create, read and list
# in its cache store, and who stole that credential can neither delete nor reach the target.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"

as() { FARSHORE_CREDENTIALS=$TMP/roles/$1 "${@:2}"; } # ROLE COMMAND...

say "enabled by an administrator, with roles on $FARSHORE_TEST_SERVER"
enable_vm web 16M os
make_roles
as source mount_vm web --cut-interval 1
"$ORACLE" write "$TMP/log" 120 4 "${SEED:-7}" "$TMP/src/os.img" &
writer=$!
PIDS+=($writer)
as viewer join_vm web
FARSHORE_CREDENTIALS=$TMP/roles/processor start_processor web "$TMP/process.log"
for _ in $(seq 8); do as source A point web --wait --timeout 30 >/dev/null; done
as source kill -KILL "$(A status web --json | jq '.vms[0].worker_pid')"
head -c 12M /dev/urandom >"$TMP/big" # an epoch with parts
touch "$TMP/log.stop"
wait $writer
dd if="$TMP/big" of="$TMP/src/os.img" bs=1M conv=notrunc,fsync status=none
final=$(as source A point web --wait=target --timeout 60)
kill $processor
wait $processor || fail "the processor failed: $(cat "$TMP/process.log")"

say "read, and opened writable, by a viewer"
mkdir "$TMP/rec"
as viewer B recover "$TMP/rec" --writable drill
cmp "$TMP/rec/web/points/$final/os.img" "$TMP/disks/os.raw"
echo drill | dd of="$TMP/rec/web/points/$final/os.img" bs=1 conv=notrunc,fsync status=none
names_in target web | says '^web/pins/' || fail "the viewer placed no pin"
umount "$TMP/rec"

say "the source stops and starts again"
as source A unmount "$TMP/src" --wait
as source mount_vm web
dd if=/dev/urandom of="$TMP/src/os.img" bs=4096 count=3 conv=notrunc,fsync status=none
as source A point web --wait --timeout 30 >/dev/null
as source A unmount "$TMP/src" --wait
as processor B process web --once

say "what a thief of the source's credential can do"
thief=$TMP/roles/source
refused() { # WHAT STATUS
    case $2 in 401 | 403 | 409 | 412) ;; *) fail "$1 was not refused: $2 $(cat "$TMP/answer")" ;; esac
    echo "$1: $2"
}
object=$(names_in cache web | tail -n 1)
[ "$(ask "$thief" GET cache "$object")" = 200 ] || fail "the thief's credential does not work at all"
cp "$TMP/answer" "$TMP/object"
refused "deleting" "$(ask "$thief" DELETE cache "$object")"
store_place cache
secret=$thief/$name
store_place target
[ -e "$thief/$name" ] || cp "$secret" "$thief/$name" # what works for the cache is tried there
refused "reading the target" "$(ask "$thief" GET target web/vault)"
refused "writing to the target" "$(put_raw "$thief" target web/thief x)"
refused "deleting in the target" "$(ask "$thief" DELETE target web/vault)"
[ "$(ask "$ADMIN" GET target web/vault)" = 200 ] || fail "the vault is gone"
overwritten=$(put_raw "$thief" cache "$object" forged)
case $FARSHORE_TEST_SERVER in
azurite*) refused "overwriting" "$overwritten" ;;
*) echo "overwriting: $overwritten: a right to put is a right to replace there" ;;
esac
say "passed in $SECONDS s"
