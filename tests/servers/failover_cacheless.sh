#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Region A is lost, host and cache store together: b takes over with what the vault has, cannot
# fence the old source's log, runs the guest all the same, and fences when that store is back.
# The cache is on the server of tests/servers/with.sh, which is stopped; the target is a folder.
# Runs under that and tests/servers/libvirt.sh "a b".
. "$(dirname "$0")/two_hosts.sh" "$@"
TARGET=file://$TMP/target
fence_pending() { [ "$(B glance web | jq .failover.fence_pending)" = "$1" ]; }
store_answers() { curl -s -o /dev/null --max-time 5 "$FARSHORE_TEST_ENDPOINT"; }
store_silent() { ! store_answers; }

say "a guest on host a, replicated"
lan_on a
counting_guest
protect_guest
A point web --wait=target >/dev/null
wait_for 20 counts_past a web $(($(counted a web) + 100))

say "host a is lost, and its store"
kill -USR1 "$FARSHORE_TEST_PID"
wait_for 30 store_silent
host_dies a web
start=$SECONDS
B failover web --json >"$TMP/failover.json"
echo "the command took $((SECONDS - start)) s"
lost_no_more_than_said
[ "$(address_of b web)" = 'GUEST ADDRESS eth0 10.61.0.42/24' ] || fail "it has $(address_of b web)"
fence_pending true || fail "who was fenced?"
[ "$(jq .fence_pending "$TMP/failover.json")" = true ] || fail "the result does not tell"
expect_exit 2 'failed-over' B reprotect web

say "the store is back: the agent fences the old source"
kill -USR2 "$FARSHORE_TEST_PID"
wait_for 30 store_answers
wait_for 120 fence_pending false
host_returns a
expect_exit 4 'failed over to b' A mount web
A mount web --force
fenced() { [ "$(A status web --json | jq -r '.vms[0].state')" = fenced ]; }
wait_for 30 fenced
A unmount "$V/state-a/mounts/web" 2>/dev/null
agent a

say "committed, and protected the other way"
boots=$(boots b web)
B commit web >/dev/null
B reprotect web >/dev/null
[ "$(boots b web)" -eq "$boots" ] || fail "the guest began again"
wait_for 20 counts_past b web "$(counted b web)"
say "done"
