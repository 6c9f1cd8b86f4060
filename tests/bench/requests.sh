#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What a VM asks of its stores: a minute of replication at the default interval, with a guest that
# writes all the time and with one that writes nothing, counted by the project's own HTTP store and
# reckoned up to a day.
#   requests.sh SOURCE_FOLDER BINARY [SECONDS]
if [ -z "${FARSHORE_TEST_SERVER:-}" ]; then
    FAULTY_OPTIONS=--record FAULTY_STORE=$(dirname "$2")/tests/faulty_store \
        exec bash "$1/tests/servers/with.sh" faulty bash "$0" "$@"
fi
. "$(dirname "$0")/../e2e/lib.sh" "$1" "$2"
LENGTH=${3:-60}
LOG=$FARSHORE_TEST_FOLDER/faulty.log

# Lists are GETs, but dearer: they are told apart.
counted() { # TITLE
    local before
    before=$(grep -c '^end$' "$LOG" || true)
    pkill -USR1 -P "$FARSHORE_TEST_PID" faulty_store
    wait_for 10 eval '[ "$(grep -c "^end$" "$LOG")" -gt '"$before"' ]'
    awk -v skip="$before" -v title="$1" -v seconds="$LENGTH" '
        $1 == "end" {ends++; next}
        ends == skip {
            split($2, path, "/"); where = path[2] ~ /^far-cache/ ? "cache" : "target"
            what = $2 ~ /list-type=2/ ? "LIST" : $1
            n[where " " what]++
        }
        END {
            for (key in n) printf "%s: %-14s %7.1f a minute, %8d a day\n", title, key, n[key] * 60 / seconds, n[key] * 86400 / seconds
        }' "$LOG" | sort
}

enable_vm web 64M os >/dev/null
mount_vm web >/dev/null
A point web --wait >/dev/null
join_vm web >/dev/null
b "$FARSHORE" process web >"$TMP/process.log" 2>&1 &
PIDS+=($!)
A point web --wait=target >/dev/null
sleep 10
counted start >/dev/null
(while :; do
    dd if=/dev/urandom of="$TMP/src/os.img" bs=4k count=8 seek=$((RANDOM % 1000)) conv=notrunc status=none
    sleep 0.5
done) &
writer=$!
PIDS+=($writer)
sleep "$LENGTH"
counted "busy"
kill $writer
sleep 15
counted "rest" >/dev/null
sleep "$LENGTH"
counted "idle"
A unmount "$TMP/src" >/dev/null
