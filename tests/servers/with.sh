#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# with.sh SERVER COMMAND...: a real object store on loopback, the command, and nothing left behind.
# SERVER is file, azurite, azurite-https, radosgw or faulty. The command finds in its environment
#   FARSHORE_TEST_CACHE, FARSHORE_TEST_TARGET   URLs of two stores; on Azure in two accounts
#   FARSHORE_CREDENTIALS                        folder with their credentials
#   FARSHORE_TEST_SERVER                        SERVER
#   FARSHORE_TEST_ENDPOINT                      its URL, for tests that sign requests of their own
# Exit 77 (skipped) says why the server cannot run here.
set -euo pipefail
SERVERS=$(cd "$(dirname "$0")" && pwd)
SERVER=$1
shift
FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/farshore-$SERVER.XXXXXX")
PIDS=()

# By pid, politely first: Azurite writes what it holds, Ceph's daemons end their threads.
stop() {
    local status=$? pid n
    set +e
    for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${PIDS[@]}"; do
        for n in $(seq 50); do
            [ -e "/proc/$pid/exe" ] || break
            sleep 0.1
        done
        kill -KILL "$pid" 2>/dev/null
    done
    rm -rf --one-file-system "$FOLDER"
    exit $status
}
trap stop EXIT
trap 'exit 1' INT TERM

skip() { echo "SKIP: $*"; exit 77; }

free_port() { # the kernel's choice; taken by nobody else unless it is very unlucky
    local port
    while port=$((20000 + RANDOM % 12000)); do
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            echo "$port"
            return
        fi
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
azurite | azurite-https) . "$SERVERS/azurite.sh" ;;
radosgw) . "$SERVERS/radosgw.sh" ;;
faulty) . "$SERVERS/faulty.sh" ;;
*) echo "no such server: $SERVER" >&2; exit 2 ;;
esac
"start_${SERVER%-https}"
"$@"
