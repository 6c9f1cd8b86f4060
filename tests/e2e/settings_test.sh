#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Settings change under a running mount and a running processor; stores are tried and endpoints
# told before anything rests on them; a process lets nobody read its memory.
. "$(dirname "$0")/lib.sh" "$@"
DENIED=1 USAGE=2 NOT_FOUND=3

say "store check: a folder is tried, nothing stays behind, wrong use is named"
expect_exit $USAGE 'store check URL' A store
expect_exit $USAGE 'did you mean' A store chekc "file://$TMP/s"
expect_exit $USAGE 'did you mean processor' A store check "file://$TMP/s" --role procesor
expect_exit $USAGE 'no kind of store' A store check "ftp://host/s"
expect_exit $NOT_FOUND "$TMP/s" A store check "file://$TMP/s"
for role in source processor viewer; do
    A store check "file://$TMP/s" --create --role $role --prefix web >"$TMP/table"
    grep -q "never-replace  *good" "$TMP/table" || fail "no table: $(cat "$TMP/table")"
    [ -z "$(find "$TMP/s/web" -type f)" ] || fail "$role left $(find "$TMP/s/web" -type f)"
done
[ "$(A store check "file://$TMP/s" --json | jq -r '.usable, .properties[0].property')" = $'true\ncreate' ] ||
    fail "--json"
mkdir -m 755 "$TMP/locked"
A store check "file://$TMP/locked" --create >/dev/null
chmod 711 "$TMP"
expect_exit $DENIED 'Permission denied' setpriv --reuid 65534 --regid 65534 --clear-groups \
    env FARSHORE_CONFIG="$TMP/n" FARSHORE_STATE="$TMP/n" FARSHORE_RUN="$TMP/n" \
    "$FARSHORE" store check "file://$TMP/locked"

say "enable --bandwidth, set, wrong keys and values"
mkdir "$TMP/disks"
truncate -s 16M "$TMP/disks/os.raw"
enable_web() {
    A enable web --disk "os=$TMP/disks/os.raw" --cache "file://$TMP/cache" \
        --target "file://$TMP/target" "$@"
}
expect_exit $USAGE 'RATE as in' enable_web --bandwidth 20Q
enable_web --bandwidth 20M >/dev/null
[ "$(A set web)" = $'bandwidth=20M\ncut_interval=5' ] || fail "set shows $(A set web)"
expect_exit $USAGE 'did you mean bandwidth' A set web bandwith=1M
expect_exit $USAGE '1 to 3600' A set web bandwidth=3M cut_interval=0
expect_exit $USAGE 'KEY=VALUE' A set web cut_interval
[ "$(A set web --json | jq -r .bandwidth)" = 20M ] || fail "a refused set has changed something"

say "a running mount takes settings up at once, and so does its next worker"
in_force() { A status web --json | jq -c '.vms[0]|[.bandwidth_bytes_per_second,.cut_interval_seconds]'; }
mount_vm web
A set web bandwidth=1M,00:00-24:00=2M cut_interval=1 >/dev/null
[ "$(in_force)" = "[2097152,1]" ] || fail "in force: $(in_force)"
kill -KILL "$(A status web --json | jq '.vms[0].worker_pid')"
next_has_it() { [ "$(in_force)" = "[2097152,1]" ]; }
wait_for 20 next_has_it
worker=$(A status web --json | jq '.vms[0].worker_pid')
kill -STOP "$worker" # it takes the question, and dies with it
A status web --json >"$TMP/asked" & asked=$!
sleep 1
kill -KILL "$worker"
wait $asked || fail "status ended with $?"
jq -e --argjson was "$worker" '.vms[0].worker_pid | . != null and . != $was' "$TMP/asked" >/dev/null ||
    fail "asked of one that died, status says $(jq -c '.vms[0] | [.state, .reason]' "$TMP/asked")"
A status web | says 'now 2.0 MiB/s' || fail "status does not show the bound"
A set web bandwidth=unlimited >/dev/null
[ "$(in_force)" = "[0,1]" ] || fail "in force without a bound: $(in_force)"
A point web --wait >/dev/null
A unmount "$TMP/src" --wait
mount_vm web --cut-interval 7
A set web cut_interval=2 2>"$TMP/note" >/dev/null
grep -q 'keeps to it' "$TMP/note" || fail "no word of --cut-interval"
[ "$(in_force)" = "[0,7]" ] || fail "in force with --cut-interval: $(in_force)"
A unmount "$TMP/src" --wait

say "a running processor takes a bound up; a signal ends it; nobody reads its memory"
join_vm web
expect_exit $USAGE 'belongs to the host' B set web cut_interval=2
b exec "$FARSHORE" process web --interval 1 >"$TMP/process.log" 2>&1 &
PIDS+=($!)
wait_for 20 grep -q applied "$TMP/process.log"
B set web bandwidth=3M >/dev/null
wait_for 20 grep -q 'bandwidth 3M' "$TMP/process.log"
kill -TERM "${PIDS[-1]}"
wait "${PIDS[-1]}" || fail "the processor ended with $?"
setpriv --reuid 65534 --regid 65534 --clear-groups env FARSHORE_CONFIG="$TMP/n" \
    FARSHORE_STATE="$TMP/n" FARSHORE_RUN="$TMP/n" "$FARSHORE" process >/dev/null 2>&1 &
PIDS+=($!)
private() { [ "$(readlink "/proc/$1/exe")" = "$FARSHORE" ] && [ "$(stat -c %u "/proc/$1/environ")" -eq 0 ] &&
    [ $((0x$(sed -n 's/^SigBlk:[[:space:]]*//p' "/proc/$1/status") >> 14 & 1)) -eq 1 ]; } # and heeds SIGTERM
wait_for 20 private "${PIDS[-1]}"
kill -TERM "${PIDS[-1]}"
wait "${PIDS[-1]}" || fail "an idle processor ended with $?"

say "endpoints: by role, with ports, the metadata endpoint where no credential is, no password"
[ "$(A endpoints web | grep -c 'none: the store is a folder')" -eq 4 ] || fail "$(A endpoints web)"
settings=$TMP/a/config/vms/web.json
sed -i "s|file://$TMP/cache|s3://box?region=eu-west-2|; s|file://$TMP/target|azure://acc/box|" "$settings"
endpoints() {
    env -u AWS_ACCESS_KEY_ID HOME="$TMP" https_proxy=http://me:geheim@proxy.example:3128 \
        FARSHORE_CONFIG="$TMP/a/config" "$FARSHORE" endpoints web --json
}
endpoints >"$TMP/endpoints"
[ "$(jq -r '.endpoints[]|select(.role=="source")|.endpoint' "$TMP/endpoints")" = \
    $'https://box.s3.eu-west-2.amazonaws.com:443\nhttp://169.254.169.254:80' ] || fail "$(cat "$TMP/endpoints")"
[ "$(jq -r '.endpoints[]|select(.role=="viewer")|.endpoint' "$TMP/endpoints")" = \
    https://acc.blob.core.windows.net:443 ] || fail "$(cat "$TMP/endpoints")"
[ "$(jq -r .proxies.https_proxy "$TMP/endpoints")" = http://proxy.example:3128 ] || fail "$(cat "$TMP/endpoints")"
say "passed"
