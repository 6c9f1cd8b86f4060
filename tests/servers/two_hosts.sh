# SPDX-License-Identifier: MIT
# Two hosts with a libvirt each, as two config roots: what the tests of failovers of real machines
# share. Sourced in place of tests/e2e/lib.sh, under tests/servers/libvirt.sh "a b".
# shellcheck shell=bash disable=SC2154
. "$(dirname "${BASH_SOURCE[0]}")/../e2e/lib.sh" "$@"
# Guests and their QEMU read here; the temporary folder of lib.sh is root's own.
V=$FARSHORE_VIRT_FOLDER
SERVERS=$SOURCE/tests/servers
pid_a=$FARSHORE_VIRT_PID_A pid_b=$FARSHORE_VIRT_PID_B
agent_a='' agent_b='' # pids

a() { FARSHORE_CONFIG=$TMP/a/config FARSHORE_STATE=$V/state-a FARSHORE_RUN=$TMP/a/run "$@"; }
b() { FARSHORE_CONFIG=$TMP/b/config FARSHORE_STATE=$V/state-b FARSHORE_RUN=$TMP/b/run "$@"; }
virsh() { local uri=FARSHORE_VIRT_${1^^}; command virsh -q -c "${!uri}" "${@:2}"; } # HOST ...

for host in a b; do
    uri=FARSHORE_VIRT_${host^^}
    mkdir -p "$TMP/$host/config"
    mkdir -m 711 "$V/state-$host"
    printf '{"name": "%s", "libvirt": "%s"}\n' "$host" "${!uri}" >"$TMP/$host/config/host.json"
done

tidy_up() {
    local status=$? host domain mounted
    set +e
    for host in a b; do
        for domain in $(virsh $host list --name 2>/dev/null); do
            virsh $host destroy "$domain" >/dev/null 2>&1
        done
    done
    for mounted in $(findmnt -rno TARGET -t fuse.farshore | grep -E "^($V|$TMP)/"); do
        umount -f -l "$mounted"
    done
    pgrep -f "$V/" | xargs -r kill 2>/dev/null
    [ $status -eq 0 ] || [ $status -eq 77 ] ||
        tail -n 12 "$V"/state-*/vms/*/mount.log "${V%/shared}"/[ab]/log/*.log 2>/dev/null
    (exit $status)
    cleanup
}
trap tidy_up EXIT

# A guest's console is a file of the host where it runs: each has its own /var/log/libvirt.
console() { echo "${V%/shared}/$1/log/$2.log"; } # HOST VM
define() { # HOST VM WORDS [ARGUMENT...] DISK...: see tests/support/guest/domain.sh
    bash "$SOURCE/tests/support/guest/domain.sh" "$2" "/var/log/libvirt/$2.log" --words "$3" "${@:4}" |
        virsh "$1" define /dev/stdin >/dev/null
}
number_of() { grep -ao "$1 [0-9]*" "$2" 2>/dev/null | tail -1 | grep -o '[0-9]*$' || echo 0; } # WORDS FILE
counted() { number_of 'GUEST ACK' "$(console "$1" "$2")"; } # HOST VM: the last record acknowledged
found() { number_of 'GUEST WHOLE' "$(console "$1" "$2")"; } # what its last boot there found
boots() { grep -ac 'GUEST WHOLE' "$(console "$1" "$2")" || true; }
counts_past() { [ "$(counted "$1" "$2")" -gt "$3" ]; } # HOST VM NUMBER
address_of() { grep -ao 'GUEST ADDRESS .*' "$(console "$1" "$2")" | tail -1 | tr -d '\r'; }
state_of() { state "${1^^}" "$2"; } # HOST VM
is_running() { [ "$(virsh "$1" domstate "$2" 2>/dev/null)" = running ]; }

agent() { # HOST
    "$1" exec "$FARSHORE" host "$1" --foreground --interval 1 >>"$TMP/agent-$1.log" 2>&1 &
    eval "agent_$1=\$!"
    PIDS+=("$!")
}

# All of a host at one instant: its guests and their hypervisor, its agent and its mounts.
host_dies() { # HOST VM...
    local of=pid_$1 agent=agent_$1 vm pids
    # Nobody sees another die, or a keeper would replace its worker.
    pids="${!agent} $(pgrep -P "${!agent}" | xargs) $(for vm in "${@:2}"; do
        "${1^^}" status "$vm" --json | jq -r '.vms[0] | .pid, .worker_pid | select(. > 0)'
    done | xargs)"
    kill -STOP $pids
    kill -KILL "${!of}" $pids
    wait "${!agent}" 2>/dev/null || true
    findmnt -rno TARGET -t fuse.farshore | grep "^$V/state-$1/" | xargs -r -n1 umount -l
}

host_returns() { # HOST
    bash "$SERVERS/libvirt.sh" --boot "$1" &
    local unshared=$!
    PIDS+=("$unshared")
    wait_for 60 pgrep -P "$unshared" -f -- '--host ' >/dev/null
    eval "pid_$1=$(pgrep -P "$unshared" -f -- '--host ')"
    wait_for 60 virsh "$1" version >/dev/null 2>&1
}

# Lines of a console with the time, in milliseconds, when they came.
stamp() { # HOST VM FILE
    tail -n +1 -F "$(console "$1" "$2")" 2>/dev/null | while read -r line; do
        printf '%s %s\n' $((${EPOCHREALTIME/./} / 1000)) "$line"
    done >"$3" &
    PIDS+=("$!")
}
stamp_of() { grep -am1 "GUEST ACK $1\\s*\$" "$2" | cut -d' ' -f1; } # NUMBER FILE

# The next host found all that was acknowledged on the one before; the record that was being written
# may be there too.
took_over() { # VM FROM TO
    local acked found
    acked=$(counted "$2" "$1") found=$(found "$3" "$1")
    echo "acknowledged on $2: $acked, found on $3: $found"
    [ "$found" -eq "$acked" ] || [ "$found" -eq $((acked + 1)) ] || fail "not all of it"
}

# What must stay when a machine moves.
identity() { # HOST DOMAIN
    virsh "$1" dumpxml "$2" >"$TMP/identity.xml"
    grep -oE "<name>[^<]*</name>|<uuid>[^<]*</uuid>|<mac address='[^']*'" "$TMP/identity.xml"
}

# --- VM web, with one NIC, which counts on host a ---

lan_on() { # HOST
    virsh "$1" net-define /dev/stdin >/dev/null <<'NET'
<network><name>lan</name><ip address='10.61.0.1' netmask='255.255.255.0'><dhcp>
<range start='10.61.0.10' end='10.61.0.99'/><host mac='52:54:00:61:00:01' ip='10.61.0.42'/></dhcp></ip></network>
NET
    virsh "$1" net-start lan
}

counting_guest() {
    truncate -s 64M "$V/web.img"
    define a web 'log=raw pause=20 dhcp=1' --net lan,52:54:00:61:00:01 "$V/web.img"
    virsh a start web
    stamp a web "$TMP/stamps"
    wait_for 60 counts_past a web 5
}

protect_guest() { # [OPTION...] of enable
    agent a
    A enable web --domain web --cache "$CACHE" --target "$TARGET" --target-host b "$@" >/dev/null
    B join "$TARGET" --key "$TMP/a/config/keys/web.key" >/dev/null
    agent b
}

# After an unplanned failover to b with --json in failover.json: b has what was acknowledged before
# the moment that the printed RPO leads back to.
lost_no_more_than_said() {
    local acked got begun lost
    wait_for 60 counts_past b web 0
    acked=$(counted a web) got=$(found b web)
    begun=$(B glance web | jq .failover.begun_ms) lost=$(jq .lost_seconds "$TMP/failover.json")
    echo "acknowledged $acked, found $got, printed RPO $lost s, $(jq -c '{rto_ms}' "$TMP/failover.json")"
    [ "$got" -gt 0 ] && [ "$got" -le $((acked + 1)) ] || fail "b found $got records"
    [ "$got" -ge "$acked" ] || [ "$(stamp_of $((got + 1)) "$TMP/stamps")" -ge $((begun - lost * 1000)) ] ||
        fail "record $((got + 1)), of $(stamp_of $((got + 1)) "$TMP/stamps"), is lost; begun $begun"
}
