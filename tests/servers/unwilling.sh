#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A store that answers half of all requests with 503, 429 or 500 and a Retry-After of one second,
# under load: what was refused is not asked again before that, so that requests become no more than
# they were; the guest sees nothing, everything ships in the end.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
LENGTH=${STRESS_SECONDS:-6}
LOG=$FARSHORE_TEST_FOLDER/faulty.log

status() { A status web --json | jq -r ".vms[0].$1"; }
state_is() { [ "$(status state)" = "$1" ]; }
ends() { grep -c '^end$' "$LOG" || true; }
told() { [ "$(ends)" -gt "$1" ]; }
# Of the requests since the last look: how many, how many were refused, and how many of those came
# again too soon.
asked() {
    local before
    before=$(ends)
    kill -USR1 "$FARSHORE_TEST_FAULTY"
    wait_for 10 told "$before"
    awk -v skip="$before" '$1 == "end" {ends++; next}
        ends != skip {next}
        {n++; key = $1 " " $2}
        key in at {soon += $4 < at[key] + 950; delete at[key]}
        $3 ~ /^(429|500|503)$/ {refused++; at[key] = $4}
        END {print n + 0, refused + 0, soon + 0}' "$LOG"
}
# A new block each time, so that each epoch has something to ship.
load() {
    local i=0
    while [ ! -e "$TMP/enough" ]; do
        dd if=/dev/urandom of="$TMP/src/os.img" bs=64k seek=$((i++ % 200)) count=4 oflag=dsync conv=notrunc status=none || return
        sleep 0.02
    done
}

enable_vm web 16M os >/dev/null
mount_vm web --cut-interval 1
A point web --wait >/dev/null
load & writer=$!
PIDS+=($writer)

say "$LENGTH s with a store that is well"
asked >/dev/null
sleep "$LENGTH"
read -r well refused soon <<<"$(asked)"
[ "$refused" -eq 0 ] || fail "$refused requests were refused"
say "and as long with one that refuses every other request"
epoch=$(status epoch)
give_faults "refuse=50%"
sleep "$LENGTH"
read -r unwilling refused soon <<<"$(asked)"
echo "$well requests when it is well, $unwilling when it is not, $refused of them refused; $(($(status epoch) - epoch)) epochs"
[ "$refused" -ge 2 ] || fail "too few were refused to tell"
[ "$soon" -eq 0 ] || fail "$soon requests came again before they should"
[ "$unwilling" -le $((well + 10)) ] || fail "a store that is too busy is asked the more"
[ "$(status epoch)" -gt "$epoch" ] || fail "nothing ships"
say "the load stops"
touch "$TMP/enough"
wait $writer || fail "the guest saw it"
caught_up() { [ "$(status dirty_bytes)" = 0 ] && state_is protected; }
wait_for 60 caught_up # while every other request is refused, still
give_faults
join_vm web >/dev/null
point=$(A point web --wait)
B process web --once >/dev/null
point_is_the_disk web "$point" os
say "passed"
