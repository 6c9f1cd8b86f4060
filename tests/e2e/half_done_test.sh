#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What was begun and is not done is not taken for something else: a revert that broke off, a host whose
# failover was cancelled while it was away, a disk that is not whole yet, a way back whose host is away.
. "$(dirname "$0")/lib.sh" "$@"
command -v jq >/dev/null || { echo "SKIP: no jq here"; exit 77; }
ERROR=1 INVALID=2 FENCED=4 BUSY=8
counting_hosts a b
enable_vm web 64M os >/dev/null
A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
mount_vm web
join_vm web >/dev/null
B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
agent a
agent b
start_counter a web "$TMP/src"
wait_for 20 counts a-web 20

say "a revert that breaks off: nothing is mounted by mistake, it goes on to the point of its beginning"
first=$(A point web --wait=target)
wait_for 20 counts a-web $(($(acked a-web) + 50))
second=$(A point web --wait=target)
last=$(acked a-web)
touch "$TMP/a/state/disks" # where the new files were to be
! A revert web --point "$first" >"$TMP/out" 2>"$TMP/err" || fail "there is no room for its disks, and it is done"
expect_exit $FENCED "farshore revert web --point $first" A mount web "$TMP/src"
A mount web "$TMP/src" --force >/dev/null
rm "$TMP/a/state/disks"
expect_exit $INVALID "a revert of web to $first was begun" A revert web --point "$second"
expect_exit $BUSY "farshore unmount" A revert web --point "$first"
A unmount "$TMP/src" >/dev/null 2>&1
A revert web --point "$first" >/dev/null 2>&1
wait_for 20 counts a-web 1
[ "$(found a-web)" -lt "$last" ] || fail "nothing was reverted"
A point web --wait=target >/dev/null

say "cancelled while its host was away: that one mounts nothing when it is back"
B failover web >/dev/null 2>&1
wait_for 20 counts b-web 5
kill_host b web "$agent_b" "$(cat "$TMP/pid-b-web")"
umount -l "$TMP/b/state/mounts/web"
rm "$TMP/pid-b-web"
A cancel web --force >/dev/null 2>&1
wait_for 30 counts a-web 5
expect_exit $FENCED 'must not run here too' B mount web "$TMP/b/state/mounts/web"
agent b
gone() { [ "$(jq -r .role "$TMP/b/config/vms/web.json")" = target ]; }
wait_for 30 gone
say "passed"
