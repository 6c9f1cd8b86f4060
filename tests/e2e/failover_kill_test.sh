#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every failover verb is killed behind each line of its progress, and given again: it ends in the
# same state, what the machine had acknowledged is there, and nothing is left over. Then the gaps
# between two effects that no line shows, one by one.
. "$(dirname "$0")/lib.sh" "$@"
command -v jq >/dev/null || { echo "SKIP: no jq here"; exit 77; }
COUNTER=$TMP/counter
cc -O2 -o "$COUNTER" "$SOURCE/tests/support/guest/counter.c"
LAST_LINE=${KILL_LINES:-8} # no verb has more steps than that, as seen below
AGAIN=6                    # times that a verb may have to be given

for host in a b; do
    mkdir -p "$TMP/$host/config"
    printf '{"name": "%s", "libvirt": "none:///"}\n' "$host" >"$TMP/$host/config/host.json"
    # A machine that runs is left alone, as docs/FAILOVER.md asks of a start command.
    cat >"$TMP/start-$host" <<SH
#!/bin/sh
name=$host\${FARSHORE_TEST:+-test}
[ ! -e $TMP/pid-\$name ] || [ ! -e /proc/\$(cat $TMP/pid-\$name)/exe ] || exit 0
$COUNTER run 5 0 "\$FARSHORE_DISK_OS" >$TMP/acks-\$name 2>&1 &
echo \$! >$TMP/pid-\$name
SH
    cat >"$TMP/stop-$host" <<SH
#!/bin/sh
name=$host\${FARSHORE_TEST:+-test}
[ -e $TMP/pid-\$name ] || exit 0
kill \$(cat $TMP/pid-\$name) 2>/dev/null
while [ -e /proc/\$(cat $TMP/pid-\$name)/exe ]; do sleep 0.02; done
rm -f $TMP/pid-\$name
SH
    chmod 755 "$TMP/start-$host" "$TMP/stop-$host"
done
acked() { grep -ao 'GUEST ACK [0-9]*' "$TMP/acks-$1" 2>/dev/null | tail -1 | awk '{print $3 + 0}'; }
counts() { [ "$(acked "$1" || echo 0)" -gt "${2:-0}" ] 2>/dev/null; }
found() { grep -ao 'GUEST WHOLE [0-9]*' "$TMP/acks-$1" | tail -1 | awk '{print $3}'; }
took_over() { # FROM TO: all that was acknowledged there is here; one more may have been written
    local acked found
    acked=$(acked "$1") found=$(found "$2")
    [ "$found" -eq "$acked" ] || [ "$found" -eq $((acked + 1)) ] ||
        fail "$1 acknowledged $acked, $2 found $found"
}
state() { "$1" status web --json | jq -r '.vms[0].failover'; }
agent() { # HOST
    "$1" exec "$FARSHORE" host "$1" --foreground --interval 1 >>"$TMP/agent-$1.log" 2>&1 &
    eval "agent_$1=\$!"
    PIDS+=("$!")
}
lower() { tr AB ab <<<"$1"; }

# HOST LINES VERB...: SIGKILL behind its LINES-th line of progress. KILLED=no: it was over before.
killed() {
    local host lines=$2 pid line n=0
    host=$(lower "$1")
    shift 2
    mkfifo "$TMP/lines"
    "$host" exec "$FARSHORE" "$@" >"$TMP/out" 2>"$TMP/lines" &
    pid=$!
    : >"$TMP/err"
    KILLED=no
    while read -r line; do
        echo "$line" >>"$TMP/err"
        n=$((n + 1))
        if [ $n -eq "$lines" ] && kill -KILL $pid 2>/dev/null; then KILLED="$line"; fi
    done <"$TMP/lines"
    rm "$TMP/lines"
    wait $pid 2>/dev/null || true
}
# HOST CONDITION VERB...: given until CONDITION holds. The agent may have been faster than we.
again() {
    local host=$1 condition=$2
    shift 2
    for _ in $(seq $AGAIN); do
        ! eval "$condition" || return 0
        timeout 120 "$(lower "$host")" "$FARSHORE" "$@" >"$TMP/out" 2>"$TMP/err" || sleep 0.5
    done
    eval "$condition" || { cat "$TMP/err"; B jobs web; fail "after a kill behind \"$KILLED\", $* does not come to its end"; }
}
# timeout(1) takes no functions.
timeout() { local seconds=$1; shift; "$1" command timeout "$seconds" "${@:2}"; }
# HOST LINES CONDITION VERB...
storm() {
    local host=$1 lines=$2 condition=$3
    shift 3
    killed "$host" "$lines" "$@"
    echo "   $1 ${2#web}: killed behind \"$KILLED\""
    again "$host" "$condition" "$@"
    no_job_runs
}
# Nothing goes on behind the verb's back when the next one is given.
no_job_runs() { wait_for 150 quiet; }
quiet() { ! { A jobs web --json; B jobs web --json; } | jq -e '.jobs[] | select(.state == "running" or .state == "waiting")' >/dev/null; }
is() { [ "$(state "$1")" = "$2" ]; }
