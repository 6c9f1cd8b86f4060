#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A reprotect whose process dies while it waits for the first point, and the seed of one whose process
# dies behind its last deed: their hosts' agents settle them.
. "$(dirname "$0")/lib.sh" "$@"

counting_web 16M
agent a --no-process
agent b
A point web --wait=target >/dev/null
B failover web --planned >/dev/null
B commit web >/dev/null

say "the reprotect is killed while nothing is applied over there"
b exec "$FARSHORE" reprotect web >"$TMP/reprotect.out" 2>&1 &
reprotect=$!
PIDS+=("$reprotect")
waits() { grep -q '^protect:' "$1"; }
wait_for 30 waits "$TMP/reprotect.out"
kill -KILL "$reprotect"
[ "$(state B)" = reprotecting ] || fail "state $(state B)"

say "a point is applied, and the agent of the host where the VM runs settles it"
kill "$agent_b" "$agent_a"
wait "$agent_b" "$agent_a" || true
agent a
agent b
settled() { [ "$(state B)" = none ]; }
wait_for 30 settled

say "asked for on the other host: who waits there has its result, though the process of the job died"
A failover web --planned >/dev/null
A commit web >/dev/null
kill "$agent_b"
wait "$agent_b" || true
agent b --no-process
B reprotect web >"$TMP/asked.out" 2>&1 & asked=$!
wait_for 30 waits "$TMP/asked.out"
kill -KILL $(pgrep -P "$agent_a" -f 'farshore run-job web')
[ "$(state A)" = reprotecting ] || fail "state $(state A)"
kill "$agent_b"
wait "$agent_b" || true
agent b
wait "$asked" || fail "exit $?: $(cat "$TMP/asked.out")"
[ "$(state A)" = none ] || fail "state $(state A)"

say "the process of the seed dies when its host has turned to the other vault: nobody waits for it"
B failover web --planned >/dev/null
B commit web >/dev/null
kill "$agent_a"
wait "$agent_a" || true
mkdir -p "$TMP/faulty"
spoil fsync kill 1 -1 "$TMP/a/config/vms"
faulty agent a
B reprotect web >/dev/null
[ ! -e "$TMP/faulty/fsync" ] || fail "the seed was not killed"
grep -q 'seed is done, though its process ended' "$TMP/agent-a.log" || fail "it was not settled"
[ "$(state B)" = none ] || fail "state $(state B)"
stop_counter b web
