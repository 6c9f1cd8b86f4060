#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A reprotect whose process dies while it waits for the first point: its host's agent settles it.
. "$(dirname "$0")/lib.sh" "$@"
COUNTER=$TMP/counter
cc -O2 -o "$COUNTER" "$SOURCE/tests/support/guest/counter.c"

for host in a b; do
    mkdir -p "$TMP/$host/config"
    printf '{"name": "%s", "libvirt": "none:///"}\n' "$host" >"$TMP/$host/config/host.json"
    cat >"$TMP/start-$host" <<SH
#!/bin/sh
name=$host-\$FARSHORE_VM\${FARSHORE_TEST:+-test}
while [ -e $TMP/hold-\$name ]; do sleep 0.1; done
[ ! -e $TMP/fail-\$name ] || { echo "no room for \$name" >&2; exit 7; }
echo "\$name" >>$TMP/order
$COUNTER run 5 0 "\$FARSHORE_DISK_OS" >>$TMP/acks-\$name 2>&1 &
echo \$! >$TMP/pid-\$name
SH
    cat >"$TMP/stop-$host" <<SH
#!/bin/sh
name=$host-\$FARSHORE_VM\${FARSHORE_TEST:+-test}
[ -e $TMP/pid-\$name ] || exit 0
kill \$(cat $TMP/pid-\$name) 2>/dev/null
while [ -e /proc/\$(cat $TMP/pid-\$name)/exe ]; do sleep 0.05; done
rm $TMP/pid-\$name
SH
    chmod 755 "$TMP/start-$host" "$TMP/stop-$host"
done
acked() { grep -ao 'GUEST ACK [0-9]*' "$TMP/acks-$1" 2>/dev/null | tail -1 | awk '{print $3 + 0}'; }
counts() { [ "$(acked "$1" || echo 0)" -gt "${2:-0}" ] 2>/dev/null; }
state() { "$1" status web --json | jq -r '.vms[0].failover'; }
agent() { # HOST OPTION...
    local host=$1
    shift
    "$host" exec "$FARSHORE" host "$host" --foreground --interval 1 "$@" \
        >>"$TMP/agent-$host.log" 2>&1 &
    eval "agent_$host=\$!"
    PIDS+=("$!")
}

enable_vm web 16M os >/dev/null
A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
mount_vm web
join_vm web >/dev/null
B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
agent a --no-process
agent b
FARSHORE_VM=web FARSHORE_TEST='' FARSHORE_DISK_OS=$TMP/src/os.img "$TMP/start-a"
wait_for 20 counts a-web 10
A point web --wait=target >/dev/null
B failover web --planned >/dev/null
B commit web >/dev/null

say "the reprotect is killed while nothing is applied over there"
b exec "$FARSHORE" reprotect web >"$TMP/reprotect.out" 2>&1 &
reprotect=$!
PIDS+=("$reprotect")
waits() { grep -q '^protect:' "$TMP/reprotect.out"; }
wait_for 30 waits
kill -KILL "$reprotect"
[ "$(state B)" = reprotecting ] || fail "state $(state B)"

say "a point is applied, and the agent of the host where the VM runs settles it"
kill "$agent_b" "$agent_a"
wait "$agent_b" "$agent_a" || true
agent a
agent b
settled() { [ "$(state B)" = none ]; }
wait_for 30 settled
FARSHORE_VM=web FARSHORE_TEST='' "$TMP/stop-b"
