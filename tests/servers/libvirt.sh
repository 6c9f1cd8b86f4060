#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# libvirt.sh "HOST..." COMMAND...: a real libvirt for each HOST (a letter), as if each were a
# machine of its own; then the command; and nothing left behind. The command finds
#   FARSHORE_VIRT_A, FARSHORE_VIRT_B ...   URIs, for virsh -c and for `farshore host --libvirt`
#   FARSHORE_VIRT_PID_A ...                SIGKILL there is the death of that host with all its
#                                          guests, daemons and networks; `libvirt.sh --boot a` in
#                                          the background is its next start
#   FARSHORE_VIRT_HOOKS_A ...              its /etc/libvirt/hooks, which is there and empty
#   FARSHORE_VIRT_NET_A ...                /proc/PID/ns/net: nsenter --net=... is "on that host"
#   FARSHORE_VIRT_FOLDER                   for images, mounts and logs: what is mounted in it is
#                                          seen by all; guests can read in it
#   FARSHORE_GUEST                         the tests' guest: tests/support/guest/make.sh
# Each host has its own process ids, network and libvirt folders; the rest of the file system is
# shared. Processes of a host end with its first one, and that ends with this script however it
# ends. Any number of runs go on side by side. Exit 77 (skipped) says why it cannot run here; with
# FARSHORE_TEST_REQUIRE set, as in the test command, that is a failure.
set -euo pipefail
SERVERS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$SERVERS/../support/skip.sh"

# --- the first process of a host: libvirt.sh --host FOLDER ---
host_main() {
    local folder=$1 part
    # Folders of its own where libvirt has one fixed place for all.
    for part in run:/run/libvirt lib:/var/lib/libvirt etc:/etc/libvirt cache:/var/cache/libvirt \
        log:/var/log/libvirt; do
        mkdir -p "${part#*:}"
        mount --bind "$folder/${part%%:*}" "${part#*:}"
    done
    ip link set lo up
    virtlogd -p "$folder/virtlogd.pid" >"$folder/virtlogd.log" 2>&1 &
    libvirtd -p "$folder/libvirtd.pid" >"$folder/libvirtd.log" 2>&1 &
    # Guests and name servers that their parents leave become ours; the host lives until killed.
    trap 'kill $(jobs -p); exit' TERM
    while :; do wait || true; sleep 1; done
}
if [ "${1:-}" = --host ]; then
    host_main "$2"
    exit
fi

# --- a host that died comes back, until it or its caller is killed: libvirt.sh --boot HOST ---
host_boot() { # FOLDER
    rm -rf "$1"/run/* # as no /run outlives a boot
    # --kill-child: that process, the host's first, dies with unshare; unshare dies with us.
    exec setpriv --pdeathsig KILL unshare --net --pid --mount --mount-proc --propagation slave \
        --fork --kill-child=KILL bash "${BASH_SOURCE[0]}" --host "$1" >"$1/host.log" 2>&1 </dev/null
}
if [ "$1" = --boot ]; then host_boot "${FARSHORE_VIRT_FOLDER%/shared}/$2"; fi

HOSTS=$1
shift
FOLDER=
PIDS=()
CHILD=

stop() {
    local status=$? pid
    set +e
    trap '' INT TERM
    if [ -n "$CHILD" ] && kill -TERM -- "-$CHILD" 2>/dev/null; then
        wait "$CHILD" # it has mounts to take down, and all its waits are bounded
    fi
    # Ours still: a host may have died, and its number be another process's by now.
    for pid in "${PIDS[@]}"; do [ "$(ps -o ppid= -p "$pid")" -eq $$ ] && kill -KILL "$pid"; done 2>/dev/null
    { wait; } 2>/dev/null
    [ -z "$FOLDER" ] || folder_remove "$FOLDER"
    exit $status
}
trap stop EXIT
trap 'exit 1' INT TERM

[ "$(id -u)" -eq 0 ] || skip "needs root (namespaces, networks)"
command -v libvirtd virtlogd virsh dnsmasq qemu-system-x86_64 >/dev/null ||
    skip "no libvirt and QEMU (libvirtd, virtlogd, virsh, dnsmasq, qemu-system-x86_64)"
GUEST=$(cd "$SERVERS/../.." && pwd)/build/guest
bash "$SERVERS/../support/guest/make.sh" "$GUEST" || { [ $? -eq 77 ] && skip "no guest"; exit 1; }

folder_remove() { # FOLDER: innermost mounts first, last the bind mount of the folder itself
    findmnt -rno TARGET | grep -E "^$1(/|\$)" | tac | xargs -r -n1 umount -f -l
    rm -rf --one-file-system "$1"
}

# A script that is killed takes its hosts along, but not its folder.
for stale in "${TMPDIR:-/tmp}"/farshore-virt.*; do
    [ -s "$stale/owner" ] && [ ! -d "/proc/$(cat "$stale/owner")" ] && folder_remove "$stale"
done

# Guests run as a user of their own, who comes by here.
FOLDER=$(mktemp -d "${TMPDIR:-/tmp}/farshore-virt.XXXXXX")
echo $$ >"$FOLDER/owner"
chmod 755 "$FOLDER"
mkdir "$FOLDER/shared"
mount --bind "$FOLDER" "$FOLDER"
mount --make-private "$FOLDER"
mount --make-shared "$FOLDER" # what is mounted later is seen in the hosts too

host_folder() { # HOST: as on a fresh machine
    local folder=$FOLDER/$1
    mkdir -p "$folder"/{run,lib/qemu,etc/hooks,etc/qemu/networks,cache,log}
    chmod -R a+rX "$folder"
    chown libvirt-qemu:libvirt-qemu "$folder/lib/qemu" 2>/dev/null || true
    cat >"$folder/etc/libvirtd.conf" <<CONF
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
CONF
    echo 'security_driver = "none"' >"$folder/etc/qemu.conf"
}

host_start() { # HOST
    local host=$1 folder=$FOLDER/$1 upper=${1^^} inner
    host_folder "$host"
    host_boot "$folder" &
    PIDS+=($!)
    export "FARSHORE_VIRT_$upper=qemu:///system?socket=$folder/run/libvirt-sock"
    export "FARSHORE_VIRT_HOOKS_$upper=$folder/etc/hooks"
    local unshared=$! end=$((SECONDS + 60))
    until inner=$(pgrep -P "$unshared" -f -- '--host ') && [ -n "$inner" ]; do
        kill -0 "$unshared" && [ $SECONDS -lt $end ] || { cat "$folder/host.log" >&2; exit 1; }
        sleep 0.05
    done
    export "FARSHORE_VIRT_PID_$upper=$inner" "FARSHORE_VIRT_NET_$upper=/proc/$inner/ns/net"
}

host_wait() { # HOST: until it answers
    local uri=FARSHORE_VIRT_${1^^} end=$((SECONDS + 60))
    until virsh -c "${!uri}" version >/dev/null 2>&1; do
        if [ $SECONDS -ge $end ]; then
            tail -20 "$FOLDER/$1"/*.log >&2
            echo "the libvirt of host $1 did not start" >&2
            exit 1
        fi
        sleep 0.1
    done
}

for host in $HOSTS; do host_start "$host"; done
for host in $HOSTS; do host_wait "$host"; done
export FARSHORE_VIRT_FOLDER=$FOLDER/shared FARSHORE_GUEST=$GUEST

# In the background, so that signals are heard at once, and in a group of its own, so that they
# reach all of it.
set -m
setpriv --pdeathsig TERM "$@" </dev/null &
CHILD=$!
set +m
status=0
wait "$CHILD" || status=$?
CHILD=
exit $status
