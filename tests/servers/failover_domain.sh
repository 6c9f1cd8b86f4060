#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A real machine between two hosts with a libvirt each, twice around: enabled while it runs,
# drilled, failed over with its host killed, committed, reprotected without its noticing, failed
# back without a loss. Runs under tests/servers/with.sh and tests/servers/libvirt.sh "a b".
. "$(dirname "$0")/two_hosts.sh" "$@"
. "$SERVERS/client.sh"
ADDRESS='GUEST ADDRESS eth0 10.61.0.42/24'

# As it was on the host before.
same_machine() { # HOST
    identity "$1" web >"$TMP/now"
    diff "$TMP/identity" "$TMP/now" || fail "the machine on $1 is another one"
    [ "$(address_of "$1" web)" = "$ADDRESS" ] || fail "it has $(address_of "$1" web)"
}

say "a guest counts on host a, and is enabled meanwhile"
lan_on a
counting_guest
protect_guest
identity a web >"$TMP/identity"
[ "$(address_of a web)" = "$ADDRESS" ] || fail "the guest has $(address_of a web)"
[ "$(boots a web)" -eq 1 ] || fail "enable made it boot again"
A point web --wait=target >/dev/null

say "a drill on b, while the guest on a goes on"
before=$(counted a web)
A point web --wait=target >/dev/null
A test-failover web --json >"$TMP/test.json" # asked on a, done on b
drill=$V/state-b/tests/web/1
drilled() { grep -aq 'GUEST WHOLE' "$drill/web.log"; }
wait_for 60 drilled
echo "the drill found $(number_of 'GUEST WHOLE' "$drill/web.log"), of $before before its point; $(jq -c '{rto_ms}' "$TMP/test.json")"
[ "$(number_of 'GUEST WHOLE' "$drill/web.log")" -ge "$before" ] || fail "the drill lacks records"
[ "$(state_of b web)" = test-running ] || fail "state $(state_of b web)"
[ "$(virsh b list --name)" = web-test-1 ] || fail "b runs $(virsh b list --name)"
identity b web-test-1 | sort >"$TMP/drill"
sort "$TMP/identity" | comm -12 - "$TMP/drill" | grep . && fail "the drill has that of its original"
grep -aq "$ADDRESS" "$drill/web.log" || fail "the drill has another address"
virsh b net-dumpxml farshore-test-web-1 >"$TMP/net.xml"
! grep -q '<forward' "$TMP/net.xml" || fail "the drill's network leads out"
wait_for 20 counts_past a web "$(counted a web)"
B cleanup web --note fine >/dev/null
[ "$(state_of b web)" = none ] || fail "state $(state_of b web) after cleanup"
[ -z "$(virsh b list --all --name)" ] || fail "the drill left $(virsh b list --all --name)"
[ -z "$(virsh b net-list --all --name)" ] || fail "the drill left $(virsh b net-list --all --name)"
[ ! -e "$drill" ] || fail "the drill left its folder"
! findmnt -rno TARGET | grep "^$V/state-b/" || fail "the drill left a mount"
[ -z "$(ls "$V/state-b/scratch" 2>/dev/null)" ] || fail "the drill left overlays"
! names_in target web | grep '^web/pins/' || fail "the drill left a pin"

say "host a dies, and b takes over"
wait_for 20 counts_past a web $(($(counted a web) + 300)) # so that there is something to lose
host_dies a web
B failover web --json >"$TMP/failover.json"
lost_no_more_than_said
same_machine b
[ "$(state_of b web)" = failed-over ] || fail "state $(state_of b web)"
B commit web >/dev/null

say "host a comes back, and may not start its machine"
host_returns a
expect_exit 4 'failed over to b' A mount web
expect_exit 4 'failed over to b' A hook web prepare begin
agent a

around() { # FROM TO: protected from there, and moved on without a loss
    say "reprotected from $1, whose guest does not notice"
    local boots counted
    boots=$(boots "$1" web) counted=$(counted "$1" web)
    "${1^^}" reprotect web >/dev/null
    [ "$(state_of "$1" web)" = none ] || fail "state $(state_of "$1" web)"
    wait_for 20 counts_past "$1" web "$counted"
    [ "$(boots "$1" web)" -eq "$boots" ] || fail "the guest began again"
    say "planned failover from $1 to $2"
    boots=$(boots "$2" web)
    "${2^^}" failover web --planned --json >"$TMP/planned.json"
    [ "$(jq .lost_seconds "$TMP/planned.json")" = 0 ] || fail "seconds are lost"
    has_booted() { [ "$(boots "$1" web)" -gt "$2" ]; }
    wait_for 60 has_booted "$2" "$boots"
    took_over web "$1" "$2"
    same_machine "$2"
    wait_for 20 counts_past "$2" web "$(found "$2" web)"
    ! is_running "$1" web || fail "it runs on $1 too"
    "${2^^}" commit web >/dev/null
}
around b a
around a b
around b a
say "done"
