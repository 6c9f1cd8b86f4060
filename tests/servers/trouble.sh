#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A server that goes away under load, and a credential that stops working: the guest sees nothing,
# the state says what is wrong, and everything goes on by itself once it is right again.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"

state_is() { [ "$(A status web --json | jq -r '.vms[0].state')" = "$1" ]; }
reason() { A status web --json | jq -r '.vms[0].reason'; }
# Writes go on, and nothing was restarted for it.
guest_is_well() {
    local begun=$(($(date +%s%N) / 1000000)) spent
    dd if=/dev/urandom of="$TMP/src/spare.img" bs=4096 count=200 oflag=dsync conv=notrunc status=none
    spent=$(($(date +%s%N) / 1000000 - begun))
    echo "200 synced writes took $spent ms"
    [ "$(A status web --json | jq '.vms[0].worker_restarts')" = 0 ] || fail "the worker was restarted"
}

own=$TMP/own # the source's credentials
cp -a "$ADMIN" "$own"
a() {
    FARSHORE_CREDENTIALS=$own FARSHORE_CONFIG=$TMP/a/config FARSHORE_STATE=$TMP/a/state \
        FARSHORE_RUN=$TMP/a/run "$@"
}
store_place cache
own_file=$own/$name
# A file is replaced whole, as people should.
own_is() { (umask 077 && printf '%s\n' "$@" >"$own/new") && mv "$own/new" "$own_file"; }
new_secret() { # of the source's own key; the one before is void
    secret=$(openssl rand -hex 20)
    rgw_admin key create --uid=farshore --key-type=s3 --access-key=AKOFSOURCE --secret-key="$secret" \
        >"$TMP/key.log" 2>&1 || fail "$(cat "$TMP/key.log")"
}
# One that will end soon, its end, one that holds, and one that never did.
own_is_mortal() {
    case $FARSHORE_TEST_SERVER in
    azurite*) own_is "AZURE_STORAGE_SAS_TOKEN=$(azure_sas cache rcl 8)" ;;
    *)
        new_secret
        own_is AWS_ACCESS_KEY_ID=AKOFSOURCE "AWS_SECRET_ACCESS_KEY=$secret"
        ;;
    esac
}
own_ends() { case $FARSHORE_TEST_SERVER in radosgw) new_secret ;; esac }
own_is_good() {
    case $FARSHORE_TEST_SERVER in
    azurite*) own_is "AZURE_STORAGE_SAS_TOKEN=$(azure_sas cache rcl 3600)" ;;
    *) own_is AWS_ACCESS_KEY_ID=AKOFSOURCE "AWS_SECRET_ACCESS_KEY=$secret" ;;
    esac
}
own_is_wrong() {
    case $FARSHORE_TEST_SERVER in
    azurite*) own_is "AZURE_STORAGE_KEY=$(printf 'this is not the key of the account' | base64 -w0)" ;;
    *) own_is AWS_ACCESS_KEY_ID=AKOFSOURCE AWS_SECRET_ACCESS_KEY=thisIsNotTheSecret ;;
    esac
}

say "enabled on $FARSHORE_TEST_SERVER, under load"
enable_vm web 16M os data spare
mount_vm web --cut-interval 1
"$ORACLE" write "$TMP/log" 200 4 "${SEED:-11}" "$TMP/src/os.img" &
writer=$!
PIDS+=($writer)
join_vm web
start_processor web "$TMP/process.log"
A point web --wait --timeout 30 >/dev/null

say "the server goes away"
kill -USR1 "$FARSHORE_TEST_PID"
wait_for 60 state_is stalled
guest_is_well
echo "stalled: $(reason)"
[ -n "$(reason)" ] || fail "no reason is given"
say "and comes back"
kill -USR2 "$FARSHORE_TEST_PID"
wait_for 60 state_is protected
A point web --wait=target --timeout 60 >/dev/null

touch "$TMP/log.stop"
wait $writer
A unmount "$TMP/src" --wait --timeout 120

say "the source's credential ends while it runs"
own_is_mortal
mount_vm web --cut-interval 1
own_ends
"$ORACLE" write "$TMP/log2" 200 4 12 "$TMP/src/data.img" &
writer=$!
PIDS+=($writer)
wait_for 60 state_is stalled
guest_is_well
echo "stalled: $(reason)"
reason | says -F "$own_file" || fail "the reason does not name the place of the credential"
say "and is replaced"
own_is_good
wait_for 60 state_is protected
touch "$TMP/log2.stop"
wait $writer
final=$(A point web --wait=target --timeout 60)
kill $processor
wait $processor || fail "the processor failed: $(cat "$TMP/process.log")"
A unmount "$TMP/src" --wait --timeout 120

say "every point is good"
mkdir "$TMP/rec"
B recover "$TMP/rec"
for disk in os data spare; do cmp "$TMP/rec/web/points/$final/$disk.img" "$TMP/disks/$disk.raw"; done
check_points web "$TMP/rec" "$TMP/log" os
check_points web "$TMP/rec" "$TMP/log2" data
umount "$TMP/rec"

say "a wrong credential is named by its place, and not shown"
own_is_wrong
wrong=$(sed 's/^[A-Z_]*=//' "$own_file")
expect_exit 1 "credentials from $own_file" A disable web --purge --yes web
! grep -qF "$wrong" "$TMP/err" "$TMP/out" || fail "the error shows the credential"
say "passed in $SECONDS s"
