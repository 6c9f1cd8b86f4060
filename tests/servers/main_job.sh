#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The main job over the stores that with.sh started: two disks under load, points cut and processed
# meanwhile, opened elsewhere and put before the oracle; then purged, without a trace in the stores.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"
POINTS=${POINTS:-24}

say "enabled; $FARSHORE_TEST_SERVER"
enable_vm web 16M os data
names_in target web | says -x 'web/vault' || fail "the target store holds no vault"
mount_vm web --cut-interval 1
SEED=${SEED:-$RANDOM}
echo "seed $SEED"
"$ORACLE" write "$TMP/log" 120 8 "$SEED" "$TMP/src/os.img" "$TMP/src/data.img" &
writer=$!
PIDS+=($writer)
join_vm web
start_processor web "$TMP/process.log"

say "$POINTS points asked for under load"
for _ in $(seq "$POINTS"); do A point web --wait >>"$TMP/asked"; done
before_ms=$(date +%s%3N)
last=$(A point web --wait --label last)
sane() { A status web --json | jq -e '.vms[0] | .state == "protected" and .failover == "none" and .epoch > 0 and
    .shipped_bytes > 0 and .rpo_seconds < 30 and .cache_lag_seconds < 30 and .reason == ""' >/dev/null; }
wait_for 60 sane
touch "$TMP/log.stop"
wait $writer
final=$(A point web --wait=target --timeout 60)
kill $processor
wait $processor || fail "the processor failed: $(cat "$TMP/process.log")"
B process web --once
missing=$(comm -23 <(sort "$TMP/asked") <(point_ids web | sort))
[ -z "$missing" ] || fail "points asked for are not listed: $missing"

say "every point is good, the newest equals the disks"
mkdir -p "$TMP/rec"
B recover "$TMP/rec"
check_points web "$TMP/rec" "$TMP/log" os data
"$ORACLE" check "$TMP/log" "$before_ms" "$TMP/rec/web/points/$last"/{os,data}.img
for disk in os data; do cmp "$TMP/rec/web/points/$final/$disk.img" "$TMP/disks/$disk.raw"; done
umount "$TMP/rec"
B verify web --point "$final" >/dev/null

say "a writable view keeps what was written to it, and the vault as it was"
objects=$(names_in target web | grep -v '^web/pins/' | sort)
B recover "$TMP/rec" --writable drill
printf 'a drill was here' |
    dd of="$TMP/rec/web/points/$final/os.img" bs=1 seek=123457 conv=notrunc,fsync status=none
names_in target web | says '^web/pins/' || fail "a writable view holds no pin"
umount "$TMP/rec"
B recover "$TMP/rec" --writable drill
[ "$(dd if="$TMP/rec/web/points/$final/os.img" bs=1 skip=123457 count=16 status=none)" = 'a drill was here' ] ||
    fail "the view forgot what was written to it"
umount "$TMP/rec"
[ "$(names_in target web | grep -v '^web/pins/' | sort)" = "$objects" ] ||
    fail "a writable view changed the vault"

say "unmounted, mounted again: only what differs is shipped"
A unmount "$TMP/src" --wait
mount_vm web
dd if=/dev/urandom of="$TMP/src/os.img" bs=4096 count=3 conv=notrunc,fsync status=none
point=$(A point web --wait)
[ "$(A status web --json | jq '.vms[0].shipped_bytes')" -lt $((1 << 20)) ] || fail "shipped too much"
B process web --once
B recover "$TMP/rec" --vm web
cmp "$TMP/rec/web/points/$point/os.img" "$TMP/disks/os.raw"
umount "$TMP/rec"
A unmount "$TMP/src" --wait

say "purged"
[ "$(names_in cache web | wc -l)" -gt 0 ] || fail "the cache store lists nothing"
A disable web --purge --yes web
for store in cache target; do
    left=$(names_in $store web)
    [ -z "$left" ] || fail "left in the $store store: $left"
done
say "passed in $SECONDS s: $(wc -l <"$TMP/asked") points asked for"
