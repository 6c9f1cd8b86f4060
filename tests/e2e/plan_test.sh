#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Plans by the command: kept, shown, run, paused, cut off by SIGKILL, continued and reported. What
# the verbs do to VMs is tested elsewhere; here the steps are scripts.
. "$(dirname "$0")/lib.sh" "$@"
FAILED=1 USAGE=2 NOT_FOUND=3 BUSY=8

enable_vm web 16M os >/dev/null

say "create, show, list, remove; wrong use is named"
expect_exit $NOT_FOUND 'no VM nowhere' A plan create p --group web,nowhere
expect_exit $USAGE 'without a step' A plan create p
expect_exit $USAGE 'in the plan twice' A plan create p --group web --group web
expect_exit $USAGE "no plan's name" A plan create ../p --group web
expect_exit $USAGE 'did you mean create' A plan creat p
expect_exit $USAGE 'plan run NAME' A plan run
A plan create p --script 'echo one >>one' --group web --pause 'right?' --script true >/dev/null
expect_exit $FAILED 'replace' A plan create p --group web
[ "$(A plan list)" = p ] || fail "$(A plan list)"
A plan show p | says '2  group: web' || fail "$(A plan show p)"
A plan show p --json >"$TMP/p.json"
A plan create p --file "$TMP/p.json" --script false --replace >/dev/null
[ "$(A plan show p --json | jq '.steps | length')" = 5 ] || fail "--file and --script"
A plan remove p
[ "$(A plan list --json | jq '.plans | length')" = 0 ] || fail "it is there still"
expect_exit $NOT_FOUND 'no plan p' A plan run p --test
expect_exit $NOT_FOUND 'not been run' A plan report p

say "a run with a pause"
A plan create p --script "echo one >>$TMP/one" --pause 'is it right?' \
    --script "echo two >>$TMP/two" >/dev/null
expect_exit $USAGE 'one of --test' A plan run p
expect_exit $USAGE 'one of --test' A plan run p --test --planned
expect_exit $USAGE '--point goes with' A plan run p --planned --point latest
A plan run p --test >"$TMP/out" 2>"$TMP/err" || fail "$(cat "$TMP/err")"
grep -q 'paused: is it right?' "$TMP/out" || fail "$(cat "$TMP/out")"
[ ! -e "$TMP/two" ] || fail "it went on by itself"
expect_exit $BUSY 'plan continue p' A plan run p --test
A plan continue p --json 2>/dev/null >"$TMP/out"
[ "$(jq -r .state "$TMP/out")" = "done" ] || fail "$(cat "$TMP/out")"
[ "$(jq '.took_ms - .rto_ms == .paused_ms' "$TMP/out")" = true ] || fail "the times do not add up"
[ "$(cat "$TMP/one" "$TMP/two")" = $'one\ntwo' ] || fail "steps were repeated"
A plan report p | says 'without pauses (measured RTO)' || fail "$(A plan report p)"

say "a failure: stopped behind it, repeated alone"
A plan create q --script "echo a >>$TMP/s1" --script "echo b >>$TMP/s2; echo broken >&2; test -e $TMP/ok" \
    --script "echo c >>$TMP/s3" >/dev/null
A plan run q --unplanned >/dev/null 2>"$TMP/err" && fail "it did not fail"
tail -1 "$TMP/err" | says 'stopped at step 2: script: exit 1: broken' || fail "$(cat "$TMP/err")"
touch "$TMP/ok"
A plan run q --resume >/dev/null 2>&1 || fail "it does not go on"
[ "$(cat "$TMP/s1" "$TMP/s2" "$TMP/s3")" = $'a\nb\nb\nc' ] || fail "$(cat "$TMP/s1" "$TMP/s2" "$TMP/s3")"

say "killed in the midst, and resumed"
A plan create r --script "echo x >>$TMP/x; while [ ! -e $TMP/go ]; do sleep 0.1; done; echo y >>$TMP/y" \
    --script "echo z >>$TMP/z" >/dev/null
a exec "$FARSHORE" plan run r --test >/dev/null 2>&1 &
runner=$!
PIDS+=("$runner")
wait_for 10 test -e "$TMP/x"
wait_for 10 bash -c "[ \"\$(jq '.rows[0].pid' $TMP/a/state/plans/r.json)\" != 0 ]"
expect_exit $BUSY 'another process' A plan continue r
kill -KILL "$runner"
wait "$runner" || true # its lock is gone
A plan report r | says running || fail "$(A plan report r)"
(sleep 0.5; touch "$TMP/go") &
A plan run r --resume >/dev/null 2>&1 || fail "it does not go on"
[ "$(cat "$TMP/y" | sort -u)" = y ] && [ "$(cat "$TMP/z")" = z ] || fail "steps are missing"
[ "$(A plan report r --json | jq -r .state)" = "done" ] || fail "$(A plan report r)"

say "killed in the midst, and what it had started never ends"
echo "{\"name\": \"s\", \"steps\": [{\"script\": \"touch $TMP/began; sleep 60\", \"timeout_seconds\": 10}]}" >"$TMP/s.json"
A plan create s --file "$TMP/s.json" >/dev/null
a exec "$FARSHORE" plan run s --test >/dev/null 2>&1 &
runner=$!
PIDS+=("$runner")
wait_for 10 test -e "$TMP/began"
wait_for 10 bash -c "[ \"\$(jq '.rows[0].pid' $TMP/a/state/plans/s.json)\" != 0 ]"
kill -KILL "$runner"
wait "$runner" || true # its lock is gone
timeout 60 env FARSHORE_CONFIG="$TMP/a/config" FARSHORE_STATE="$TMP/a/state" FARSHORE_RUN="$TMP/a/run" \
    "$FARSHORE" plan run s --resume >/dev/null 2>"$TMP/err" && fail "it did not fail"
tail -1 "$TMP/err" | says 'did not end in time' || fail "$(cat "$TMP/err")"
[ "$(A plan report s --json | jq '.rows[0].attempts')" = 1 ] || fail "it was begun again by itself"
say "done"
