#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Agents: a job is posted for a host, found, run and answered through the vault alone; agents come,
# go and are killed; the processor lives with its agent.
. "$(dirname "$0")/lib.sh" "$@"
USAGE=2 NOT_FOUND=3 UNREACHABLE=5 BUSY=8

start_agent() { # HOST OPTIONS...: in the foreground, its pid in `agent`
    "$1" exec "$FARSHORE" host "$1" --foreground --interval 1 "${@:2}" >>"$TMP/$1.log" 2>&1 &
    agent=$!
    PIDS+=("$agent")
}
end_of() { # PID: until it is gone
    wait_for 15 bash -c "! kill -0 $1 2>/dev/null"
}
# Processes of this test's own configuration, by what they were started with.
started_by() { # PARENT WORD
    pgrep -P "$1" -f "farshore $2" || true
}
job_count() { A jobs web --limit 1000 --json | jq '[.jobs[] | select(.verb != "validate" and .verb != "boot")] | length'; }
# Of those that were asked for here: an agent begins some by itself.
asked() { A jobs web --json | jq -r "[.jobs[] | select(.verb != \"validate\" and .verb != \"boot\")][$1].$2"; }
newest() { asked 0 "$1"; }
ping_b() { A run-job web --begin ping --host b; }

enable_vm web 16M os >/dev/null
A host a --no-process --interval 1 >"$TMP/out"
grep -q "host a: runs in the background" "$TMP/out" || fail "$(cat "$TMP/out")"
agent_a=$(sed -n 's/.*process //p' "$TMP/a/run/host.lock")
PIDS+=("$agent_a")
[ "$(jq -r .name "$TMP/a/config/host.json")" = a ] || fail "the name was not kept"

say "a job for host c, which has no agent: it is looked at below"
join_vm web >/dev/null
start=$SECONDS
A run-job web --begin ping --host c >/dev/null 2>"$TMP/unheard.err" & unheard=$!
for_c() { A jobs web --json | jq -r ".jobs[] | select(.host == \"c\" and .verb == \"ping\").$1"; }
waits() { [ "$(for_c state)" = waiting ]; }
wait_for 10 waits

say "an agent on b: jobs are run, results come back"
start_agent b
agent_b=$agent
ping_b 2>"$TMP/err" || { cat "$TMP/err"; fail "no answer"; }
[ "$(newest state)" = done ] || fail "it is $(newest state)"
[ "$(newest result.values.host)" = b ] || fail "not from b"
[ "$(newest result.values.role)" = target ] || fail "not a target"
[ "$(newest result.values.memory_total_bytes)" -gt 1000000 ] || fail "no memory"
waits || fail "b took the job of host c"
id=$(newest id)
A job "$id" | says "$id: ping of web on host b: done" || fail "$(A job "$id")"
A job "$id" --wait --json | jq -e '.result.ok' >/dev/null || fail "--wait --json"
B jobs | says "$id" || fail "b does not see it"
[ "$(A jobs web --limit 1 --json | jq '.jobs | length')" = 1 ] || fail "--limit"
expect_exit $USAGE "no job's id" A job ../../etc/passwd
expect_exit $NOT_FOUND 'farshore jobs' A job 20200101t000000000z-0000
expect_exit $USAGE 'knows no job' A run-job web --begin nonsense

say "one agent to a host, which another one neither renames nor gives another hypervisor"
cp "$TMP/b/config/host.json" "$TMP/host.was"
expect_exit $BUSY "process $agent_b" B host c --libvirt none:///
cmp "$TMP/b/config/host.json" "$TMP/host.was" || fail "$(cat "$TMP/b/config/host.json")"
expect_exit $USAGE 'no host name' b env FARSHORE_RUN="$TMP/r2" "$FARSHORE" host B

say "many jobs at once"
for _ in 1 2 3 4 5 6; do ping_b 2>>"$TMP/pings" & pings+=($!); done
for p in "${pings[@]}"; do wait "$p" || { cat "$TMP/pings"; fail "a ping failed"; }; done

say "the processor lives with its agent"
has_processor() { processor=$(started_by "$agent_b" process); [ -n "$processor" ]; }
wait_for 10 has_processor
[ -z "$(started_by "$agent_a" process)" ] || fail "--no-process has one"
mount_vm web
A point web --wait=target >/dev/null || fail "nothing was applied"
kill -KILL "$processor"
another() { local p; p=$(started_by "$agent_b" process); [ -n "$p" ] && [ "$p" != "$processor" ]; }
wait_for 15 another
processor=$(started_by "$agent_b" process)
A point web --wait=target >/dev/null || fail "the next one applies nothing"
kill -KILL "$agent_b"
end_of "$processor"

say "an agent that was killed left its jobs: found again, and not run twice"
before=$(job_count)
start_agent b
agent_b=$agent
ping_b 2>/dev/null
[ "$(job_count)" -eq $((before + 1)) ] || fail "$(A jobs web)"

say "a job whose process dies is taken over"
# It stops the process of the next job before it can end, then kills it.
cat >"$TMP/catch.sh" <<'END'
for _ in $(seq 2000); do
    child=$(pgrep -P "$1" -f "farshore run-job web 2" | head -1)
    [ -n "$child" ] && kill -STOP "$child" 2>/dev/null && { echo "$child"; exit 0; }
done
exit 1
END
# One that had ended when it was caught tells nothing: again, until a death is seen.
died() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        grep -q "the process of job .* ended: signal 9" "$TMP/b.log" && return
        sleep 0.2
    done
    return 1
}
for tries in 1 2 3 4 5 6 7 8; do
    bash "$TMP/catch.sh" "$agent_b" >"$TMP/caught" &
    catcher=$!
    ping_b 2>"$TMP/err" &
    pinger=$!
    ! wait $catcher || kill -KILL "$(cat "$TMP/caught")" 2>/dev/null || true
    wait $pinger || { cat "$TMP/err"; fail "the ping was lost with its process"; }
    died && break
    [ "$tries" -lt 8 ] || fail "no process of a job was caught"
done
[ "$(newest state)" = done ] || fail "it is $(newest state)"

say "SIGTERM ends an agent and what it started"
processor=$(started_by "$agent_b" process)
[ -n "$processor" ] || fail "no processor"
kill "$agent_b"
end_of "$agent_b"
wait "$agent_b" || fail "its exit was $?"
kill -0 "$processor" 2>/dev/null && fail "its processor runs on"
kill "$agent_a"
end_of "$agent_a"

say "nobody took the job for host c: it is withdrawn, and an agent that comes later leaves it alone"
got=0
wait "$unheard" || got=$?
[ $got -eq $UNREACHABLE ] || fail "exit $got"
tail -1 "$TMP/unheard.err" | says 'farshore host c' || fail "$(cat "$TMP/unheard.err")"
[ $((SECONDS - start)) -ge 29 ] || fail "gave up after $((SECONDS - start)) s"
[ "$(for_c state)" = cancelled ] || fail "it is $(for_c state)"

say "more to do after a start than fits at once: what found no room has its turn when there is some"
name_hosts c
for i in $(seq -w 17); do
    truncate -s 1M "$TMP/disks/v$i.raw"
    C enable "v$i" --disk "os=$TMP/disks/v$i.raw" --cache "$CACHE" --target "$TARGET" >/dev/null
done
C join "$TARGET" --key "$TMP/a/config/keys/web.key" >/dev/null # what is validated is behind them, too
mkdir -p "$TMP/c/run"
(for i in $(seq -w 16); do exec {turn}>"$TMP/c/run/v$i.turn" && flock "$turn"; done; touch "$TMP/turns"; exec sleep 100) &
holder=$!
PIDS+=("$holder")
wait_for 20 test -e "$TMP/turns"
full() { [ "$(started_by "$agent_c" run-job | wc -l)" -eq 16 ]; }
agent c
wait_for 30 full
sleep 2 # rounds in which there is no room
kill "$holder"
booted() { C jobs v17 --json | jq -e '.jobs[0] | .verb == "boot" and .state == "done"' >/dev/null; }
wait_for 30 booted
wait_for 30 test -e "$TMP/c/state/vms/web/validated.json"
[ "$(for_c state)" = cancelled ] || fail "the withdrawn job ran"
kill "$agent_c"
end_of "$agent_c"
A unmount "$TMP/src" >/dev/null
grep -qE "error|corrupt" "$TMP/b.log" && { cat "$TMP/b.log"; fail "an error was logged"; }
say "done"
