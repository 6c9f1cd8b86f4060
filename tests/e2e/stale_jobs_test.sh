#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Jobs that a host finds when it comes back late, and that the VM's failovers have overtaken: a
# resume after a cancel. It starts and mounts nothing, and the host learns that the VM went
# elsewhere though it missed both failovers.
. "$(dirname "$0")/lib.sh" "$@"

name_hosts a b
for host in a b; do
    printf '#!/bin/sh\n[ ! -e %s ] || exec sleep 1000\necho stop >>%s\n' "$TMP/hang-$host" \
        "$TMP/did-$host" >"$TMP/stop-$host"
    printf '#!/bin/sh\necho start >>%s\n' "$TMP/did-$host" >"$TMP/start-$host"
    chmod 755 "$TMP/start-$host" "$TMP/stop-$host"
    : >"$TMP/did-$host"
done
# Of the newest job of that verb.
job_id() { B jobs web --json | jq -r --arg v "$1" '[.jobs[] | select(.verb == $v)] | sort_by(.id) | last.id // empty'; }
told() { B job "$1" >"$TMP/job" 2>&1 || true; grep -q "$2" "$TMP/job"; }
mounted_a() { A status web --json | jq -e '.vms[0].worker_pid != null' >/dev/null; }

say "a failover, cancelled while the old source is away"
enable_vm web 16M os
A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
mount_vm web
join_vm web
B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
agent b
A point web --wait=target >/dev/null
kill_host a web
umount -l "$TMP/src" || true
B failover web >/dev/null
B cancel web >/dev/null
resume=$(job_id resume-source)
[ -n "$resume" ] || { B jobs web --json; fail "no job waits for a"; }

say "and failed over again, before a is back"
B failover web >/dev/null
[ "$(cat "$TMP/did-a")" = "" ] || fail "something ran on a"
agent a
wait_for 30 told "$resume" 'failed over again after the cancel'
[ "$(cat "$TMP/did-a")" = "" ] || fail "the old source was started: it runs on both hosts"
! mounted_a || fail "the old source was mounted again"
moved() { [ -e "$TMP/a/state/vms/web/moved" ]; }
wait_for 10 moved
expect_exit 4 'failed over to b' A mount web "$TMP/src"

say "change of point on the host that has it"
B process web --branch --once >/dev/null
kept=$(B points web --json | jq -r '.points[-1].id')
B change-point web "$kept" >/dev/null
mkdir "$TMP/rec"
B recover "$TMP/rec" --vm web
cmp "$TMP/rec/web/points/$kept/os.img" "$TMP/b/state/mounts/web/os.img" || fail "b is not the point"
B unmount "$TMP/rec"
