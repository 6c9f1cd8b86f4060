#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest with a real Debian root boots at a point in an isolated network on host b, while the one
# on host a goes on writing. For the long set: minutes of emulated boot. Runs under
# tests/servers/libvirt.sh "a b".
. "$(dirname "$0")/two_hosts.sh" "$@"
DEBIAN=$SOURCE/build/debian
bash "$SOURCE/tests/support/guest/debian.sh" "$DEBIAN" "$FARSHORE_GUEST"
FARSHORE_GUEST=$DEBIAN

say "Debian boots on host a"
lan_on a
cp --sparse=always "$DEBIAN/root.img" "$V/deb.img"
define a web 'root=/dev/vda rw' --memory 512 --net lan,52:54:00:61:00:01 "$V/deb.img"
virsh a start web
wait_for 400 counts_past a web 3
protect_guest
# What systemd still writes is part of it.
A point web --wait=target --timeout 600 >/dev/null
wait_for 60 counts_past a web $(($(counted a web) + 20))
before=$(counted a web)
A point web --wait=target --timeout 600 >/dev/null

say "and at that point on host b, apart"
start=$SECONDS
B test-failover web --json >"$TMP/test.json"
drill=$V/state-b/tests/web/1/web.log
drilled() { grep -aq 'GUEST WHOLE' "$drill"; }
wait_for 400 drilled
got=$(number_of 'GUEST WHOLE' "$drill") now=$(counted a web)
echo "it counts again after $((SECONDS - start)) s ($(jq -c '{rto_ms}' "$TMP/test.json")), found $got of $before; the source is at $now"
[ "$got" -ge "$before" ] && [ "$got" -lt "$now" ] || fail "it is not the state of that point"
! grep -aiE 'EXT4-fs error|kernel panic|Failed to mount' "$drill" || fail "the file system is hurt"
counts_on() { [ "$(number_of 'GUEST ACK' "$drill")" -gt "$got" ]; }
wait_for 60 counts_on
wait_for 60 counts_past a web "$now"
[ "$(boots a web)" -eq 1 ] || fail "the source began again"
B cleanup web >/dev/null
[ -z "$(virsh b list --all --name)" ] || fail "the drill left a domain"
say "done"
