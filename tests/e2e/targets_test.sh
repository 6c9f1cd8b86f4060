#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a VM is to be at its target is told by enable, changed by set, shown by status, and never
# waited for; a host that the VM has left does not mount it; a point with the guest made quiet by
# the user's own commands.
. "$(dirname "$0")/lib.sh" "$@"
USAGE=2 FENCED=4

mkdir -p "$TMP/disks" "$TMP/src"
truncate -s 16M "$TMP/disks/os.raw"
enable_web() {
    A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE" --target "$TARGET" "$@"
}
target_is() { # NAME VALUE: as status shows it
    local shown
    shown=$(A status web --json | jq -r ".vms[0].target_settings[] | select(.name == \"$1\") | .value")
    [ "$shown" = "$2" ] || fail "target $1 is \"$shown\", not \"$2\""
}

say "enable takes the target's settings, and refuses wrong ones before anything is made"
expect_exit $USAGE 'did you mean target.hosts' enable_web --set target.hots=far
expect_exit $USAGE 'host names' enable_web --target-host 'Far Away'
expect_exit $USAGE 'belongs to --domain' enable_web --convert
[ ! -e "$TMP/a/config/vms" ] || fail "something was made"
enable_web --dry-run --target-host far1 | says 'resource-group *farshore-web' || fail "the plan"
enable_web --target-host far1 --target-host far2 --availability-set front --set target.folder=/big \
    --start 'true' --stop 'true' >/dev/null
target_is hosts far1,far2
target_is availability-set front
target_is folder /big
target_is resource-group farshore-web
[ "$(A status web --json | jq -r '.vms[0] | .failover, .vault_read')" = $'none\ntrue' ] ||
    fail "the state of failover"

say "set changes them, all or none; others see it"
expect_exit $USAGE 'did you mean target.name' A set web target.resource-group=blue target.nam=x
target_is resource-group farshore-web
A set web target.resource-group=blue target.network.lan=dmz start='echo go' >"$TMP/shown"
grep -qx 'target.network.lan=dmz' "$TMP/shown" || fail "the mapping is not shown"
grep -qx 'start=echo go' "$TMP/shown" || fail "the command is not shown"
[ "$(A set web --json | jq -r '."target.resource-group"')" = blue ] || fail "set --json"
A set web target.resource-group= >/dev/null
target_is resource-group farshore-web
join_vm web
[ "$(B status web --json | jq -r '.vms[0].target_settings[] | select(.name == "hosts") | .value')" = \
    far1,far2 ] || fail "the target host does not see the settings"

say "a vault that does not answer holds up nothing: what was read last is shown"
"$(dirname "$FARSHORE")/tests/faulty_store" --dialect azure --fault 'stall=100%' >"$TMP/port" &
PIDS+=($!)
wait_for 10 test -s "$TMP/port"
mkdir -m 700 "$TMP/a/config/credentials"
(umask 077 && echo AZURE_STORAGE_KEY=dGFyZ2V0 >"$TMP/a/config/credentials/azure.fartarget")
cp "$TMP/a/config/vms/web.json" "$TMP/web.json"
dead="azure://fartarget/target?endpoint=http://127.0.0.1:$(cat "$TMP/port")/fartarget"
jq --arg dead "$dead" '.stores[0].target = $dead' "$TMP/web.json" >"$TMP/a/config/vms/web.json"
began=$(date +%s%N)
A status web --json >"$TMP/status"
took_ms=$((($(date +%s%N) - began) / 1000000))
[ $took_ms -ge 1900 ] || fail "the store answered after $took_ms ms"
[ $took_ms -lt 6000 ] || fail "status took $took_ms ms"
[ "$(jq -r '.vms[0].vault_read' "$TMP/status")" = false ] || fail "the vault was read"
target_is hosts far1,far2
A status web | says 'as last read' || fail "status does not say that it is old"
still_asks() { pgrep -f "farshore glance web" | xargs -I{} grep -slF "$TMP/" /proc/{}/environ | says .; }
! still_asks || fail "somebody still asks"
cp "$TMP/web.json" "$TMP/a/config/vms/web.json"

say "a point with the guest made quiet"
A set web freeze="echo freeze >>$TMP/quiet" thaw="echo thaw >>$TMP/quiet" >/dev/null
expect_exit 3 'not mounted' A point web --application
[ ! -e "$TMP/quiet" ] || fail "the guest was bothered for nothing"
mount_vm web
point=$(A point web --application --label calm --wait)
[ "$(cat "$TMP/quiet")" = $'freeze\nthaw' ] || fail "quiet: $(cat "$TMP/quiet")"
B process web --once >/dev/null
[ "$(B points web --json | jq -r ".points[] | select(.id == \"$point\") | .kind + .label")" = \
    applicationcalm ] || fail "the point's kind"

say "the guest is let go when the command is killed, or its freeze fails"
A set web freeze="echo freeze >>$TMP/quiet; touch $TMP/frozen; sleep 1" >/dev/null
rm "$TMP/quiet"
a exec "$FARSHORE" point web --application >/dev/null &
killed=$!
wait_for 10 test -e "$TMP/frozen"
kill -KILL $killed
wait $killed 2>/dev/null || true
wait_for 10 grep -q thaw "$TMP/quiet"
A set web freeze='exit 3' >/dev/null
rm "$TMP/quiet"
expect_exit 1 'not made quiet' A point web --application
grep -q thaw "$TMP/quiet" || fail "what may be half frozen is not let go"

say "a host that the VM has left does not mount it, unless told twice"
A unmount "$TMP/src"
printf '{"host": "far1", "reason": "planned failover", "time_ms": 1}\n' >"$TMP/a/state/vms/web/moved"
expect_exit $FENCED 'failed over to far1' A mount web "$TMP/src"
A set web mount="$TMP/src" >/dev/null
A mount web --force
[ -e "$TMP/src/os.img" ] || fail "it is not where the setting says"
A unmount "$TMP/src"
rm "$TMP/a/state/vms/web/moved"
A mount web
A unmount "$TMP/src"
say "done"
