# SPDX-License-Identifier: MIT
# What every end-to-end test shares: two hosts as two config roots, a VM, and the promise that
# nothing is left mounted or running. Source it with: . lib.sh SOURCE_FOLDER BINARY
# Its stores are file://, or those of the server that tests/servers/with.sh started.
# shellcheck shell=bash
set -euo pipefail

SOURCE=$1
FARSHORE=$2
ORACLE=$(dirname "$FARSHORE")/tests/oracle
. "$SOURCE/tests/support/skip.sh"
[ "$(id -u)" -eq 0 ] || skip "needs root (FUSE for other users, loop devices)"
[ -e /dev/fuse ] || skip "no /dev/fuse here"
need jq

TMP=$(realpath "$(mktemp -d "${TMPDIR:-/tmp}/farshore-e2e.XXXXXX")")
cd "$TMP" # fio leaves files where it stands
PIDS=()
CACHE=${FARSHORE_TEST_CACHE:-file://$TMP/cache}
TARGET=${FARSHORE_TEST_TARGET:-file://$TMP/target}

# As a host, each of which has folders of its own: a is the source, b the target, c another.
on() { # HOST COMMAND...
    local host=$TMP/$1
    FARSHORE_CONFIG=$host/config FARSHORE_STATE=$host/state FARSHORE_RUN=$host/run "${@:2}"
}
a() { on a "$@"; }
b() { on b "$@"; }
c() { on c "$@"; }
A() { a "$FARSHORE" "$@"; }
B() { b "$FARSHORE" "$@"; }
C() { c "$FARSHORE" "$@"; }

# The processes of this test, by name: their command line says so, or TEXT.
ours() { # COMM [TEXT]
    local pid
    for pid in $(pgrep -x "$1"); do
        tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | says -F -e "$TMP/" ${2:+-e "$2"} && echo "$pid"
    done
    return 0
}
# Local I/O that goes wrong as tests/e2e/faulty_io.c says: `faulty COMMAND...` runs a command whose
# processes heed the rules, spoil makes one.
faulty() {
    mkdir -p "$TMP/faulty"
    FAULTY_IO=$TMP/faulty LD_PRELOAD=$(dirname "$FARSHORE")/tests/libfaulty_io.so "$@"
}
spoil() { # CALL ACTION COUNT OFFSET PATH
    mkdir -p "$TMP/faulty"
    echo "${@:2}" >"$TMP/faulty/new" && mv "$TMP/faulty/new" "$TMP/faulty/$1"
}
# Keeper and worker of a host's VM die at once, and with them the processes PID..., as when the host
# does. Stopped first: one alone would take the other's place. The worker dies before the keeper,
# whose death wakes what is stopped in its session.
kill_host() { # HOST VM PID...
    local pids pid
    pids=$(on "$1" "$FARSHORE" status "$2" --json | jq -r '.vms[0] | .worker_pid, .pid')
    kill -STOP $pids
    for pid in $pids; do wait_for 10 grep -q '^State:[[:space:]]*T' "/proc/$pid/status"; done
    kill -KILL $pids "${@:3}"
    # One that is in a sync is dead when that is over, and holds the VM's lock until then.
    wait_for 20 flock -n "$TMP/$1/state/vms/$2/lock" true
}
# Keeper and worker of a host's VM stop where they are, as on a host that is paused or being copied.
# What a command after it does, happens just before.
FROZEN=()
freeze() { # HOST VM [COMMAND...]
    local pids
    pids=$(on "$1" "$FARSHORE" status "$2" --json | jq '.vms[0] | .pid, .worker_pid')
    mapfile -t FROZEN <<<"$pids"
    "${@:3}"
    kill -STOP "${FROZEN[@]}"
}
thaw() {
    [ ${#FROZEN[@]} -eq 0 ] || kill -CONT "${FROZEN[@]}" 2>/dev/null || true
    FROZEN=()
}

# To the store of tests/servers/faulty.sh, in the place of all that it had.
give_faults() { # FAULT...
    local faults=$FARSHORE_TEST_FOLDER/faults
    printf '%s' "${*/%/$'\n'}" >"$faults"
    kill -USR2 "$FARSHORE_TEST_FAULTY"
    wait_for 10 test ! -e "$faults"
}

# Whether a line of the input matches, as grep has it. The input is read to its end: `grep -q` leaves at
# the match, and who still writes then dies of SIGPIPE, which fails the pipeline.
says() { grep "$@" | cat >/dev/null; }

say() { printf '== %s (%s s)\n' "$*" "$SECONDS"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }

cleanup() {
    local status=$?
    set +e
    thaw
    # Ours still: the number of one that has ended may be another test's process by now.
    for pid in "${PIDS[@]}"; do [ "$(ps -o ppid= -p "$pid")" -eq $$ ] && kill "$pid"; done 2>/dev/null
    # Innermost first: file systems on loop devices, the devices, then FUSE.
    findmnt -rno TARGET | grep "^$TMP/" | grep -v '/\(src\|rec\)[^/]*$' | tac | xargs -r -n1 umount
    losetup -nO NAME,BACK-FILE -a | awk -v t="$TMP/" 'index($2, t) == 1 {print $1}' |
        xargs -r -n1 losetup -d
    findmnt -rno TARGET | grep "^$TMP/" | tac | xargs -r -n1 umount -f -l
    # Also what a job of an agent begins just now: its place tells whose it is.
    for _ in 1 2; do
        { pgrep -f "$TMP/"; grep -lsaF "$TMP/" /proc/[0-9]*/environ | cut -d/ -f3; } | xargs -r kill -KILL 2>/dev/null
    done
    if [ $status -ne 0 ] && [ $status -ne 77 ]; then
        for log in "$TMP"/*/state/*.log "$TMP"/*/state/vms/*/*.log "$TMP"/*/run/*.log "$TMP"/*.log; do
            [ -f "$log" ] && { echo "--- $log"; tail -40 "$log"; }
        done
    fi
    rm -rf --one-file-system "$TMP"
    exit $status
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# enable_vm VM SIZE DISK...: raw sparse disks, protected
enable_vm() {
    local vm=$1 size=$2 disks=()
    shift 2
    mkdir -p "$TMP/disks"
    for disk in "$@"; do
        truncate -s "$size" "$TMP/disks/$disk.raw"
        disks+=(--disk "$disk=$TMP/disks/$disk.raw")
    done
    A enable "$vm" "${disks[@]}" --cache "$CACHE" --target "$TARGET"
    key=$TMP/a/config/keys/$vm.key
}

mount_vm() { mkdir -p "$TMP/src"; A mount "$1" "$TMP/src" "${@:2}"; }
join_vm() { B join "$TARGET" --key "$TMP/a/config/keys/$1.key"; }
# Its pid goes to `processor`: the command's own, not that of a shell around it.
start_processor() { # VM LOG
    b exec "$FARSHORE" process "$1" --interval 1 >>"$2" 2>&1 &
    processor=$!
    PIDS+=("$processor")
}
point_ids() { B points "$1" --json | jq -r '.points[].id'; }

# Every point of VM opened on a recovery mount at DIR and put before the oracle: a cut, and nothing is
# missing that was acknowledged before the point's time.
check_points() {
    local vm=$1 dir=$2 log=$3 n=0 ids id
    shift 3
    ids=$(point_ids "$vm")
    [ -n "$ids" ] || fail "no points to look at"
    for id in $ids; do
        local images=()
        for disk in "$@"; do images+=("$dir/$vm/points/$id/$disk.img"); done
        "$ORACLE" check "$log" "$(date -d "$id" +%s%3N)" "${images[@]}" >"$TMP/oracle.out" ||
            { cat "$TMP/oracle.out"; fail "point $id is no cut of what was written"; }
        n=$((n + 1))
    done
    echo "$n points are good"
}

# Unmounts VM, and compares a disk with what the point shows of it.
point_is_the_disk() { # VM POINT DISK
    A unmount "$TMP/src" --wait
    mkdir "$TMP/rec"
    B recover "$TMP/rec" --vm "$1"
    cmp "$TMP/rec/$1/points/$2/$3.img" "$TMP/disks/$3.raw"
    umount "$TMP/rec"
}

wait_for() { # SECONDS COMMAND...: until it succeeds
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ $SECONDS -lt $end ] || fail "waited in vain: $*"
        sleep 0.2
    done
}

expect_exit() { # CODE TEXT COMMAND...: fails with that code, and says TEXT in one line
    local code=$1 text=$2 got=0
    shift 2
    "$@" >"$TMP/out" 2>"$TMP/err" || got=$?
    [ "$got" -eq "$code" ] || { cat "$TMP/out" "$TMP/err"; fail "exit $got, not $code: $*"; }
    grep -qi -- "$text" "$TMP/err" || { cat "$TMP/err"; fail "no word of \"$text\": $*"; }
    [ "$(wc -l <"$TMP/err")" -eq 1 ] || { cat "$TMP/err"; fail "more than one line: $*"; }
}

# --- failover ---

# Hosts of these names, without libvirt.
name_hosts() {
    local host
    for host in "$@"; do
        mkdir -p "$TMP/$host/config"
        printf '{"name": "%s", "libvirt": "none:///"}\n' "$host" >"$TMP/$host/config/host.json"
    done
}
# The agent of HOST; its pid goes to agent_HOST.
agent() { # HOST OPTION...
    "$1" exec "$FARSHORE" host "$1" --foreground --interval 1 "${@:2}" >>"$TMP/agent-$1.log" 2>&1 &
    eval "agent_$1=\$!"
    PIDS+=("$!")
}
state() { # HOST [VM]: as the vault says; as it was last read when that does not answer three times
    local is
    for _ in 1 2 3; do
        is=$("$1" status "${2:-web}" --json | jq -r '.vms[0] | .failover, .vault_read')
        [ "${is#*$'\n'}" != true ] || break
    done
    echo "${is%%$'\n'*}"
}
# HOST: the local files of web need no store any more.
hydrated() { ! grep -q '"origin"' "$TMP/$1/config/vms/web.json"; }
# HOST: the newest job by which a source of web goes on is done.
resumed() { "$1" jobs web --json | jq -e '[.jobs[] | select(.verb == "resume-source")][0].state == "done"' >/dev/null; }

# Machines that count on their disk, by TMP/start-HOST and TMP/stop-HOST. The one of VM on HOST is
# HOST-VM, in a drill HOST-VM-test. What its last run says is in acks-NAME, its process in pid-NAME.
# Each start is a line of `order`; one beside another host's, which must not be, a line of `twice`.
# hold-NAME holds a start up, fail-NAME fails it. A machine that runs is left alone.
counting_hosts() { # HOST...
    local host
    name_hosts "$@"
    COUNTER=$TMP/counter
    cc -O2 -o "$COUNTER" "$SOURCE/tests/support/guest/counter.c"
    for host in "$@"; do
        cat >"$TMP/start-$host" <<SH
#!/bin/sh
name=$host-\$FARSHORE_VM\${FARSHORE_TEST:+-test}
TMP=$TMP COUNTER=$COUNTER
$(declare -f counter_runs)
exec 9>$TMP/lock-\$name
flock 9
while [ -e $TMP/hold-\$name ]; do sleep 0.1; done
[ ! -e $TMP/fail-\$name ] || { echo "no room for \$name" >&2; exit 7; }
! counter_runs \$name || exit 0
for other in $TMP/pid-*-\$FARSHORE_VM; do
    [ -n "\$FARSHORE_TEST" ] || ! counter_runs "\${other#$TMP/pid-}" || echo "\$name beside \$other" >>$TMP/twice
done
echo "\$name" >>$TMP/order
: >$TMP/acks-\$name
$COUNTER run ${COUNTER_PAUSE_MS:-5} 0 "\$FARSHORE_DISK_OS" >$TMP/acks-\$name 2>&1 9>&- &
echo \$! >$TMP/pid-\$name
until counter_runs \$name || [ ! -e /proc/\$!/exe ]; do sleep 0.01; done
SH
        cat >"$TMP/stop-$host" <<SH
#!/bin/sh
name=$host-\$FARSHORE_VM\${FARSHORE_TEST:+-test}
TMP=$TMP COUNTER=$COUNTER
$(declare -f counter_runs)
! counter_runs \$name || kill \$(cat $TMP/pid-\$name) 2>/dev/null
while counter_runs \$name; do sleep 0.05; done
rm -f $TMP/pid-\$name
SH
        chmod 755 "$TMP/start-$host" "$TMP/stop-$host"
    done
}
# By its program: the number may be another process's by now. Plain sh: the scripts above have it, too.
counter_runs() { [ "$(readlink "/proc/$(cat "$TMP/pid-$1" 2>/dev/null)/exe")" = "$COUNTER" ]; } # NAME
start_counter() { FARSHORE_VM=$2 FARSHORE_TEST='' FARSHORE_DISK_OS=$3/os.img "$TMP/start-$1"; } # HOST VM FOLDER
stop_counter() { FARSHORE_VM=$2 FARSHORE_TEST='' "$TMP/stop-$1"; } # HOST VM
# VM web counts on host a, and host b has all that it needs. Their agents are the test's to start.
counting_web() { # SIZE
    counting_hosts a b
    enable_vm web "$1" os >/dev/null
    A set web start="$TMP/start-a" stop="$TMP/stop-a" >/dev/null
    mount_vm web
    join_vm web >/dev/null
    B set web start="$TMP/start-b" stop="$TMP/stop-b" >/dev/null
    start_counter a web "$TMP/src"
    wait_for 20 counts a-web 20
}
# Of the last start of NAME: what it acknowledged, whether that is more than N, what it found.
acked() { grep -ao 'GUEST ACK [0-9]*' "$TMP/acks-$1" 2>/dev/null | tail -1 | awk '{print $3 + 0}'; }
counts() { [ "$(acked "$1" || echo 0)" -gt "${2:-0}" ] 2>/dev/null; }
found() { grep -ao 'GUEST WHOLE [0-9]*' "$TMP/acks-$1" | tail -1 | awk '{print $3}'; }
# The next one found all that was acknowledged before it; one more may have been written.
took_over() { # FROM TO
    local acked found
    acked=$(acked "$1") found=$(found "$2")
    [ "$found" -eq "$acked" ] || [ "$found" -eq $((acked + 1)) ] ||
        fail "$1 acknowledged $acked, $2 found $found"
}
