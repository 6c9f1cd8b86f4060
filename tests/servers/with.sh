#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# with.sh SERVER COMMAND...: a real object store on loopback, the command, and nothing left behind.
# SERVER is file, azurite, azurite-https, azurite-h2, radosgw, swift or faulty. The command finds in
# its environment
#   FARSHORE_TEST_CACHE, FARSHORE_TEST_TARGET   URLs of two stores; on Azure in two accounts
#   FARSHORE_CREDENTIALS                        folder with their credentials
#   FARSHORE_TEST_SERVER                        SERVER
#   FARSHORE_TEST_ENDPOINT                      its URL, for tests that sign requests of their own
#   FARSHORE_TEST_FOLDER                        folder of the server, for its own tools
#   FARSHORE_TEST_PID                           SIGUSR1 there stops the server, SIGUSR2 starts it again
# Exit 77 (skipped) says why the server cannot run here; with FARSHORE_TEST_REQUIRE set, as in the
# test command, that is a failure.
set -euo pipefail
SERVERS=$(cd "$(dirname "$0")" && pwd)
. "$SERVERS/../support/skip.sh"
SERVER=$1
shift
FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/farshore-$SERVER.XXXXXX")
PIDS=()  # of daemons
FRONT=   # of the one that answers requests, where it can be started again
CHILD=   # the command's process group
WOKEN=   # a signal came while we waited

# A daemon dies with this script, also when that is killed.
daemon() { # LOG COMMAND...
    setpriv --pdeathsig KILL "${@:2}" >>"$1" 2>&1 </dev/null &
    PIDS+=($!)
}

gone() { [ ! -e "/proc/$1/exe" ]; } # a zombie has none

# An Azurite that ends waits for its clients to hang up, and one that is killed forgets what it
# acknowledged in its last seconds: so it is asked politely, and its connections are cut.
front_down() {
    local front=$FRONT pid others=() port=${FARSHORE_TEST_ENDPOINT##*:}
    [ -n "$front" ] || return 0
    FRONT= # the next one may start while this one ends
    kill "$front"
    for _ in $(seq 300); do
        gone "$front" && break
        ss -K -Htn sport = ":$port" >/dev/null 2>&1 || true
        sleep 0.1
    done
    gone "$front" || kill -KILL "$front" || true
    for pid in "${PIDS[@]}"; do [ "$pid" = "$front" ] || others+=("$pid"); done
    PIDS=("${others[@]}")
}

stop() {
    local status=$?
    set +e
    trap '' INT TERM
    if [ -n "$CHILD" ] && kill -TERM -- "-$CHILD" 2>/dev/null; then
        wait "$CHILD" # it has mounts to take down, and all its waits are bounded
    fi
    [ ${#PIDS[@]} -eq 0 ] || kill -KILL "${PIDS[@]}" 2>/dev/null # what they hold goes with the folder
    { wait; } 2>/dev/null # without the shell naming each
    rm -rf --one-file-system "$FOLDER"
    exit $status
}
trap stop EXIT
trap 'exit 1' INT TERM
trap 'WOKEN=1; front_down' USR1
trap 'WOKEN=1; "front_${SERVER%%-*}"' USR2

# Runs at the same time begin at different numbers, as their pids differ; what a stranger holds is
# passed over.
PORT=$((20000 + $$ % 1500 * 8))
free_port() { # sets PORT
    while PORT=$((PORT < 31999 ? PORT + 1 : 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null; do
        :
    done
}

answers() { curl -sk -o /dev/null --max-time 5 "$1"; }

wait_for_answer() { # URL LOG: until the server answers, at most a minute
    local end=$((SECONDS + 60))
    until answers "$1"; do
        if [ $SECONDS -ge $end ]; then
            tail -20 "$2" >&2
            echo "$SERVER did not start" >&2
            exit 1
        fi
        sleep 0.2
    done
}

export FARSHORE_CREDENTIALS=$FOLDER/credentials FARSHORE_TEST_SERVER=$SERVER
export FARSHORE_TEST_FOLDER=$FOLDER FARSHORE_TEST_PID=$$
mkdir -m 700 "$FARSHORE_CREDENTIALS"
credential() { # NAME LINE...
    (umask 077; printf '%s\n' "${@:2}" >"$FARSHORE_CREDENTIALS/$1")
}

start_file() {
    export FARSHORE_TEST_CACHE=file://$FOLDER/cache FARSHORE_TEST_TARGET=file://$FOLDER/target
    export FARSHORE_TEST_ENDPOINT=
}

case $SERVER in
file) ;;
azurite | azurite-https | azurite-h2) . "$SERVERS/azurite.sh" ;;
radosgw) . "$SERVERS/radosgw.sh" ;;
faulty) . "$SERVERS/faulty.sh" ;;
swift) . "$SERVERS/swift.sh" ;;
*) echo "no such server: $SERVER" >&2; exit 2 ;;
esac
"start_${SERVER%%-*}"

# In the background, so that signals are heard at once, and in a group of its own, so that they
# reach all of it.
set -m
setpriv --pdeathsig TERM "$@" </dev/null &
CHILD=$!
set +m
status=0
wait "$CHILD" || status=$?
while [ -n "$WOKEN" ]; do
    WOKEN=
    status=0
    wait "$CHILD" || status=$?
done
CHILD=
exit $status
