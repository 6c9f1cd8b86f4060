#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# enable --domain with a real libvirt: a domain that is off, in place and by conversion; one that
# runs, whose guest goes on counting; the hook; what is refused; and all of it given back.
# Runs under tests/servers/libvirt.sh a.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
# Guests and their QEMU read here; the temporary folder of lib.sh is root's own.
V=$FARSHORE_VIRT_FOLDER
DOMAIN_XML=$SOURCE/tests/support/guest/domain.sh
virsh() { command virsh -q -c "$FARSHORE_VIRT_A" "$@"; }

tidy_up() {
    local status=$? domain mounted
    set +e
    for domain in $(virsh list --name 2>/dev/null); do virsh destroy "$domain" >/dev/null 2>&1; done
    for mounted in $(findmnt -rno TARGET -t fuse.farshore | grep -E "^($V|$TMP)/"); do
        umount -f -l "$mounted"
    done
    [ $status -eq 0 ] || { tail -5 "$V"/*.log; tail -20 "$TMP"/a/state/vms/*/mount.log; } 2>/dev/null
    (exit $status)
    cleanup
}
trap tidy_up EXIT

# The mounts must be seen by the hypervisor: below its shared folder.
state_of() { mkdir -p "$V/state"; chmod 711 "$V/state"; }
a() { FARSHORE_CONFIG=$TMP/a/config FARSHORE_STATE=$V/state FARSHORE_RUN=$TMP/a/run "$@"; }

counted() { grep -ao 'GUEST ACK [0-9]*' "$V/$1.log" 2>/dev/null | tail -1 | awk '{print $3 + 0}'; }
has_counted() { [ "$(counted "$1" || echo 0)" -ge "$2" ] 2>/dev/null; }
is_off() { [ "$(virsh domstate "$1")" = "shut off" ]; }
disk_path() { virsh domblklist "$1" "${@:3}" | awk -v d="$2" '$1 == d {print $2}'; }
state_is() { [ "$(A status "$1" --json | jq -r '.vms[0].state')" = "$2" ]; }

define() { # NAME WORDS DISK...
    bash "$DOMAIN_XML" "$1" "$V/$1.log" --words "$2" "${@:3}" >"$TMP/$1.xml"
    virsh define "$TMP/$1.xml" >/dev/null
}

# As its unit would: the daemon of host a, in the namespaces of that host.
restart_libvirt() {
    local daemon
    daemon=$(pgrep -f "libvirtd -p ${FARSHORE_VIRT_FOLDER%/shared}/a/libvirtd.pid")
    kill "$daemon"
    wait_for 20 not_running "$daemon"
    nsenter -t "$FARSHORE_VIRT_PID_A" -n -p -m \
        libvirtd -d -p "${FARSHORE_VIRT_FOLDER%/shared}/a/libvirtd.pid" >/dev/null 2>&1
    wait_for 20 virsh version >/dev/null
}
not_running() { [ ! -e "/proc/$1/exe" ]; }

state_of
mkdir -p "$TMP/a/config"
printf '{"name": "near", "libvirt": "%s"}\n' "$FARSHORE_VIRT_A" >"$TMP/a/config/host.json"

say "the hook is installed, and libvirt started anew to find it"
cat >"$TMP/hook.env" <<ENV
FARSHORE_CONFIG=$TMP/a/config
FARSHORE_STATE=$V/state
FARSHORE_RUN=$TMP/a/run
ENV
# libvirt keeps nothing of its environment, so what the tests' folders need stands in the script.
cat >"$FARSHORE_VIRT_HOOKS_A/qemu" <<HOOK
#!/bin/sh
export FARSHORE_HOOK_ENV=$TMP/hook.env FARSHORE_BINARY=$FARSHORE
exec $SOURCE/share/libvirt-hook "\$@"
HOOK
chmod +x "$FARSHORE_VIRT_HOOKS_A/qemu"
restart_libvirt

say "a domain that is off is protected in place"
virsh net-define /dev/stdin >/dev/null <<NET
<network><name>lan</name><ip address='10.61.0.1' netmask='255.255.255.0'><dhcp>
<range start='10.61.0.10' end='10.61.0.99'/><host mac='52:54:00:61:00:01' ip='10.61.0.42'/></dhcp></ip></network>
NET
virsh net-start lan
truncate -s 64M "$V/off.img"
define off 'log=raw most=20 pause=10' --net lan,52:54:00:61:00:01 "$V/off.img"
A enable off --domain off --cache "$CACHE" --target "$TARGET" --target-host far --dry-run >"$TMP/plan"
grep -q 'resource-group *farshore-off' "$TMP/plan" || fail "no resource group in the plan"
grep -q 'hosts *far' "$TMP/plan" || fail "no target host in the plan"
grep -q 'lan/10.61.0.0/24 -> lan/10.61.0.0/24, 10.61.0.42 when it is free' "$TMP/plan" ||
    { cat "$TMP/plan"; fail "the NIC is not in the plan"; }
[ ! -e "$TMP/a/config/vms" ] || fail "--dry-run made something"
[ "$(disk_path off vda)" = "$V/off.img" ] || fail "--dry-run changed the domain"
A enable off --domain off --cache "$CACHE" --target "$TARGET" --target-host far
[ "$(disk_path off vda)" = "$V/state/mounts/off/vda.img" ] || fail "the disk is not on the mount"
virsh dumpxml off | says "error_policy='stop'" || fail "the guest would be told of I/O errors"
state_is off protected || wait_for 20 state_is off protected
virsh start off
wait_for 120 is_off off
all() { [ "$(counted off)" -eq 20 ]; }
wait_for 10 all
[ "$(A status off --json | jq -r '.vms[0].failover')" = none ] || fail "state of failover"
A status off | says 'target hosts: far' || { A status off; fail "status shows no target host"; }

A set off target.network.lan=dmz target.resource-group=blue >/dev/null
A status off | says 'lan/10.61.0.0/24 -> dmz/' || { A status off; fail "the mapping is not shown"; }
A status off | says 'resource-group: blue' || fail "the group is not shown"
expect_exit 2 'did you mean target.network' A set off target.netwrk=x

virsh setmaxmem off 262144 --config
A set off domain=off | says -x domain=off || fail "the domain is not shown"
[ "$(A glance off | jq -r .machine.xml | grep -c "262144</memory>")" -eq 1 ] ||
    fail "the target does not know the machine's new memory"
[ "$(A glance off | jq -r '.networks[0].name, .nics[0].address')" = $'lan\n10.61.0.42' ] ||
    fail "the target does not know the network"
expect_exit 3 nobody A set off domain=nobody

say "the hook refuses a domain that is not mounted, or was failed over"
start_refused() { # TEXT
    ! virsh start off 2>"$TMP/err" || fail "libvirt started it"
    grep -q "$1" "$TMP/err" || { cat "$TMP/err"; fail "no word of $1"; }
}
A unmount "$V/state/mounts/off"
start_refused 'not mounted'
printf '{"host": "far", "reason": "planned failover", "time_ms": 1}\n' >"$V/state/vms/off/moved"
expect_exit 4 'failed over to far' A mount off
[ "$(A status off --json | jq -r '.vms[0].failover')" = failed-over ] || fail "the fence is not shown"
A mount off --force
start_refused 'failed over to far'
rm "$V/state/vms/off/moved"
virsh start off
virsh destroy off

say "a running guest moves to the mount and goes on"
truncate -s 64M "$V/live1.img"
truncate -s 1300M "$V/live2.img"
# What takes a while to copy and little to ship.
head -c 1200M /dev/zero | tr '\0' x |
    dd of="$V/live2.img" bs=1M seek=64 conv=notrunc iflag=fullblock status=none
define live 'log=raw pause=20' --agent "$V/live1.img" "$V/live2.img"
virsh start live
wait_for 120 has_counted live 5
mkdir "$V/small"
mount -t tmpfs -o size=4k tmpfs "$V/small"
expect_exit 1 'make room' A enable live --domain live --local "$V/small" --cache "$CACHE" --target "$TARGET"
umount "$V/small"
[ ! -e "$TMP/a/config/vms/live.json" ] || fail "something was made"
# Killed while the second disk is copied: the guest goes on, and so does the same command.
a exec "$FARSHORE" enable live --domain live --cache "$CACHE" --target "$TARGET" >/dev/null &
killed=$!
has_moved() { [ "$(disk_path live vda)" != "$V/live1.img" ]; }
wait_for 30 has_moved
kill -KILL $killed || say "(too quick to be killed here)"
wait $killed || true
A enable live --domain live --cache "$CACHE" --target "$TARGET"
for disk in vda vdb; do
    [ "$(disk_path live $disk)" = "$V/state/mounts/live/$disk.img" ] || fail "$disk did not move"
    [ "$(disk_path live $disk --inactive)" = "$V/state/mounts/live/$disk.img" ] ||
        fail "$disk moves back at the next start"
done
wait_for 60 has_counted live $(($(counted live) + 20))
state_is live protected || wait_for 20 state_is live protected
expect_exit 8 'shut it down' A disable live

say "its disk grows while it runs"
! virsh blockresize live "$(disk_path live vda)" 96M 2>/dev/null || fail "libvirt grew it by itself"
A disk live grow vda 96M | says blockresize
virsh blockresize live "$(disk_path live vda)" 96M
virsh domblkinfo live vda | says "^Capacity: *$((96 << 20))$" || fail "$(virsh domblkinfo live vda)"
wait_for 60 has_counted live $(($(counted live) + 20))

say "a point with the guest quiet"
agent_answers() { virsh qemu-agent-command live '{"execute":"guest-ping"}' >/dev/null 2>&1; }
wait_for 60 agent_answers
point=$(A point live --application --wait)
frozen() { virsh qemu-agent-command live '{"execute":"guest-fsfreeze-status"}' | says frozen; }
! frozen || fail "the guest was left frozen"
virsh destroy live
acknowledged=$(counted live)
A unmount "$V/state/mounts/live" --wait
"$FARSHORE_GUEST/counter" check "$V/live1.farshore.raw" "$V/live2.farshore.raw" >"$TMP/whole" ||
    { cat "$TMP/whole"; fail "the moved disks are torn"; }
read -r whole1 whole2 <"$TMP/whole"
echo "the guest was told $acknowledged records, the disks hold $whole1 and $whole2"
[ "$whole1" -ge "$acknowledged" ] && [ "$whole2" -ge "$acknowledged" ] || fail "records are lost"

say "what was shipped is the same"
B join "$TARGET" --key "$TMP/a/config/keys/live.key" >/dev/null
B process live --once >/dev/null
mkdir "$TMP/rec"
B recover "$TMP/rec"
"$FARSHORE_GUEST/counter" check "$TMP/rec"/live/latest/{vda,vdb}.img | says -x "$whole1 $whole2" ||
    fail "the newest point is not what the disks hold"
B unmount "$TMP/rec"

[ "$(B points live --json | jq -r ".points[] | select(.id == \"$point\") | .kind")" = application ] ||
    fail "the point is not application-consistent"

say "disable gives the domains back"
A disable live
[ "$(disk_path live vda)" = "$V/live1.farshore.raw" ] || fail "live was not given back"
A disable off
[ "$(disk_path off vda)" = "$V/off.img" ] || fail "off was not given back"
findmnt -rno TARGET | grep "^$V/state/mounts" && fail "something is still mounted"

say "what cannot be replicated is refused by name; qcow2 is converted when asked"
qemu-img create -q -f qcow2 "$V/q.qcow2" 64M
define q 'log=raw most=5 pause=10' "$V/q.qcow2"
sed -i "s/type='raw'/type='qcow2'/" "$TMP/q.xml"
virsh undefine q >/dev/null
virsh define "$TMP/q.xml" >/dev/null
expect_exit 2 'qemu-img convert -O raw' A enable q --domain q --cache "$CACHE" --target "$TARGET"
expect_exit 2 'no disk to replicate' A enable q --domain q --exclude vda --cache "$CACHE" --target "$TARGET"
expect_exit 3 'domain' A enable q --domain nobody --cache "$CACHE" --target "$TARGET"
# The mount fails: the domain is as before, and the same command goes on.
mkdir -m 700 "$V/closed"
enable_q() { A enable q --domain q --convert --mount "$V/closed/q" --cache "$CACHE" --target "$TARGET"; }
expect_exit 2 "chmod o+x $V/closed" enable_q
grep -q 'the same command goes on' "$TMP/err" || fail "no way on: $(cat "$TMP/err")"
[ "$(disk_path q vda)" = "$V/q.qcow2" ] || fail "the domain is not as before"
chmod 755 "$V/closed"
enable_q >"$TMP/out"
[ "$(disk_path q vda)" = "$V/closed/q/vda.img" ] || fail "the converted disk is not on the mount"
virsh start q
wait_for 120 is_off q
A disable q
[ "$(disk_path q vda)" = "$V/q.farshore.raw" ] || fail "q was not given back"
"$FARSHORE_GUEST/counter" check "$V/q.farshore.raw" | says -x 5 || fail "the converted disk lost records"
say "done"
