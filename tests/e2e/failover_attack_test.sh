#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A failover while the old source is alive, writes and ships: what each side shows is put before the
# oracle, and then compared byte by byte in three round trips under random writes to disks of odd
# sizes, while workers, keepers and processors are killed.
. "$(dirname "$0")/lib.sh" "$@"
chmod 711 "$TMP"

name_hosts a b
for host in a b; do
    # What the start finds is kept, then written over at random until the stop.
    cat >"$TMP/start-$host" <<SH
#!/bin/sh
for disk in "\$FARSHORE_DISK_OS" "\$FARSHORE_DISK_DATA"; do
    cp --sparse=always "\$disk" $TMP/found-$host-\$(basename "\$disk") || exit 1
done
rm -f $TMP/log-$host $TMP/log-$host.stop
$ORACLE write $TMP/log-$host 600 4 \$\$ "\$FARSHORE_DISK_OS" "\$FARSHORE_DISK_DATA" \\
    >$TMP/writer-$host 2>&1 &
echo \$! >$TMP/pid-$host
SH
    cat >"$TMP/stop-$host" <<SH
#!/bin/sh
[ -e $TMP/pid-$host ] || exit 0
touch $TMP/log-$host.stop
while [ -e /proc/\$(cat $TMP/pid-$host)/exe ]; do sleep 0.05; done
rm $TMP/pid-$host
SH
    chmod 755 "$TMP/start-$host" "$TMP/stop-$host"
done
at_of() { jq -r '.mount' "$TMP/$1/config/vms/web.json"; }
other() { [ "$1" = A ] && echo B || echo A; }
lower() { tr AB ab <<<"$1"; }
kill_worker() { # HOST
    local pid
    pid=$("$1" status web --json | jq -r '.vms[0].worker_pid // empty')
    [ -z "$pid" ] || kill -KILL "$pid" || true
}
# Every disk of the newest point, as the other host's vault shows it, is what lies here.
same_there() { # HOST
    local here=$1 there at disk id
    there=$(other "$1") at=$(at_of "$(lower "$1")")
    "$here" point web --wait=target >/dev/null || fail "no point on $here"
    mkdir -p "$TMP/rec"
    "$there" recover "$TMP/rec" --vm web
    id=$("$there" points web --json | jq -r '.points[-1].id')
    for disk in os data; do
        cmp "$TMP/rec/web/points/$id/$disk.img" "$at/$disk.img" ||
            fail "disk $disk differs between $here and what $there has of it"
    done
    "$there" unmount "$TMP/rec"
    "$there" verify web >/dev/null || fail "verify on $there"
}
increasing() { "$1" points web --json | jq -e '[.points[].id] | . == (sort | unique)' >/dev/null ||
    fail "points on $1 do not increase"; }

say "disks of odd sizes, written at random"
mkdir -p "$TMP/disks"
truncate -s $((8 * 1048576 + 3 * 4096)) "$TMP/disks/os.raw"
truncate -s $((24 * 1048576 + 4096)) "$TMP/disks/data.raw"
A enable web --disk "os=$TMP/disks/os.raw" --disk "data=$TMP/disks/data.raw" \
    --cache "$CACHE" --target "$TARGET"
A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
mount_vm web
join_vm web
B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
agent b
FARSHORE_DISK_OS=$TMP/src/os.img FARSHORE_DISK_DATA=$TMP/src/data.img "$TMP/start-a"
sleep 2
A point web --wait=target >/dev/null

say "unplanned, and the old source knows nothing of it"
B failover web --json >"$TMP/failover.json"
fenced() { [ "$(A status web --json | jq -r '.vms[0].state')" = fenced ]; }
wait_for 30 fenced
kill_worker B
sleep 1
"$TMP/stop-a"
cp "$TMP/log-a" "$TMP/log-old"
"$ORACLE" check "$TMP/log-old" 0 "$TMP/found-b-os.img" "$TMP/found-b-data.img" ||
    fail "the failed-over VM shows what never was"
B process web --branch --once >/dev/null
B points web --branch --json | jq -c '.points | length'
increasing B

say "a diverged old disk is the seed"
B commit web >/dev/null
agent a
B reprotect web --json
kill_worker B
"$TMP/stop-b" # answered by the next worker
same_there B
increasing A

from=B
for round in 1 2 3; do
    to=$(other $from) f=$(lower $from) t=$(lower "$(other $from)")
    say "round $round: planned from $from to $to"
    [ -e "$TMP/pid-$f" ] || FARSHORE_DISK_OS=$(at_of $f)/os.img FARSHORE_DISK_DATA=$(at_of $f)/data.img "$TMP/start-$f"
    sleep 1
    "$to" failover web --planned --json >"$TMP/planned.json"
    # Half hydrated, both processes die and the keeper's memory with them.
    "$TMP/stop-$t"
    cp "$(at_of $t)/os.img" "$TMP/os-before"; cp "$(at_of $t)/data.img" "$TMP/data-before"
    sync -f "$TMP"
    kill_host "$t" web
    umount -l "$(at_of $t)" || true
    "$to" mount web "$(at_of $t)"
    for disk in os data; do
        cmp "$TMP/$disk-before" "$(at_of $t)/$disk.img" || fail "$disk after a crash of $to differs"
    done
    FARSHORE_DISK_OS=$(at_of $t)/os.img FARSHORE_DISK_DATA=$(at_of $t)/data.img "$TMP/start-$t"
    "$to" commit web >/dev/null
    (sleep 0.3; kill_worker "$to"; sleep 1; kill_worker "$to") & killer=$!
    "$to" reprotect web --json | jq -c .
    wait "$killer" || true
    "$TMP/stop-$t"
    same_there "$to"
    increasing "$from"
    from=$to
done
