#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What becomes of a source machine at its target: a row for each target resource, with the default
# that comes of the source and with the setting in its place. All machines are really made and
# started by libvirt; guests boot so that they hear the button. Runs under tests/servers/libvirt.sh "a b"; host
# c is a third config root whose machines run in the libvirt of b.
. "$(dirname "$0")/two_hosts.sh" "$@"
# shellcheck disable=SC2034
agent_c=''
c() { FARSHORE_CONFIG=$TMP/c/config FARSHORE_STATE=$V/state-c FARSHORE_RUN=$TMP/c/run "$@"; }
C() { c "$FARSHORE" "$@"; }
mkdir -p "$TMP/c/config"
mkdir -m 711 "$V/state-c"
printf '{"name": "c", "libvirt": "%s"}\n' "$FARSHORE_VIRT_B" >"$TMP/c/config/host.json"

row() { # RESOURCE WHAT-IT-IS WHAT-IT-SHOULD-BE
    printf '%-46s %s\n' "$1" "$2"
    [ "$2" = "$3" ] || fail "$1: it is $2, not $3"
}
has() { grep -q -- "$2" "$1" && echo yes || echo no; } # FILE WORDS
network() { # HOST NAME SUBNET... : the first has DHCP
    local xml="<network><name>$2</name>" subnet dhcp
    for subnet in "${@:3}"; do
        dhcp=
        [ "$subnet" != "$3" ] || dhcp="<dhcp><range start='$subnet.10' end='$subnet.99'/>$(cat)</dhcp>"
        xml+="<ip address='$subnet.1' netmask='255.255.255.0'>$dhcp</ip>"
    done
    virsh "$1" net-define /dev/stdin >/dev/null <<<"$xml</network>"
    virsh "$1" net-start "$2"
}
nic_of() { virsh "$1" domiflist "$2" | awk -v m="$3" '$5 == m {print $3}'; } # HOST DOMAIN MAC: its network
reserved() { virsh "$1" net-dumpxml "$2" | sed -n "s/.*<host mac='$3'.* ip='\\([^']*\\)'.*/\\1/p"; }
mapping() { B glance "$1" | jq -r '.mappings[] | "\(.home_network)<->\(.away_network)"' | sort -u | xargs; }
join_all() { # VM: b and c learn of it
    B join "$TARGET" --key "$TMP/a/config/keys/$1.key" >/dev/null
    C join "$TARGET" --key "$TMP/a/config/keys/$1.key" >/dev/null
}

# --- the source: two machines on host a ---
network a lan 10.61.0 <<<"<host mac='52:54:00:61:00:01' ip='10.61.0.42'/><host mac='52:54:00:61:00:03' ip='10.61.0.50'/>"
network a dmz 10.62.0 <<<"<host mac='52:54:00:61:00:02' ip='10.62.0.42'/>"
truncate -s 16M "$V/web0.img" "$V/web1.img" "$V/own.img"
define a web 'log=raw pause=200' --net lan,52:54:00:61:00:01 --net dmz,52:54:00:61:00:02 "$V/web0.img" "$V/web1.img"
define a own 'log=raw pause=200' --net lan,52:54:00:61:00:03 "$V/own.img"
# On host b: a network with two subnets, another one where the address of web's second card is taken.
network b front 10.71.0 10.72.0 </dev/null
network b back 10.62.0 <<<"<host mac='52:54:00:99:00:01' ip='10.62.0.42'/>"

say "shown first, and nothing made"
enable_web() {
    A enable web --domain web --cache "$CACHE" --target "$TARGET" --target-host b \
        --disk "vdb,cache=file://$TMP/cache-vdb,target=file://$TMP/target-vdb" "$@"
}
enable_web --dry-run >"$TMP/plan"
row 'dry-run: resource group' "$(has "$TMP/plan" 'resource-group *farshore-web')" yes
row 'dry-run: target hosts' "$(has "$TMP/plan" 'hosts *b')" yes
row 'dry-run: network, subnet, address of NIC 0' "$(has "$TMP/plan" 'lan/10.61.0.0/24 -> lan/10.61.0.0/24, 10.61.0.42 when it is free')" yes
row 'dry-run: network, subnet, address of NIC 1' "$(has "$TMP/plan" 'dmz/10.62.0.0/24 -> dmz/10.62.0.0/24, 10.62.0.42 when it is free')" yes
row 'dry-run: stores of the second disk' "$(has "$TMP/plan" "vdb: cache file://$TMP/cache-vdb, target file://$TMP/target-vdb")" yes
row 'dry-run: nothing is made' "$(ls -d "$TMP/cache" "$TMP/cache-vdb" "$TMP/a/config/vms" 2>/dev/null)" ''

say "the defaults; of the networks, dmz is mapped to back"
agent a
enable_web >/dev/null
A set web target.network.dmz=back >/dev/null
join_all web
agent b
c exec "$FARSHORE" host c --foreground --interval 1 >>"$TMP/agent-c.log" 2>&1 &
PIDS+=("$!")
virsh a start web
wait_for 60 counts_past a web 0 # both disks have data then
A point web --wait=target >/dev/null
row 'stores: parts of each disk in its own cache' "$([ -d "$TMP/cache-vdb/web" ] && [ -d "$TMP/cache/web" ] && echo yes)" yes
row 'stores: segments of the second in its target' "$(find "$TMP/target-vdb/web" -type f | says . && echo yes)" yes
row 'mapping: stored, home to away' "$(mapping web)" 'dmz<->back lan<->lan'
B test-failover web >/dev/null 2>"$TMP/notes"
virsh b net-dumpxml farshore-test-web-1 >"$TMP/net.xml"
virsh b net-dumpxml farshore-test-web-1-1 >"$TMP/net1.xml"
row 'isolated networks: made, one for each' "$(has "$TMP/net.xml" '10.61.0.')$(has "$TMP/net1.xml" '10.62.0.')" yesyes
row 'isolated networks: lead nowhere' "$(has "$TMP/net.xml" '<forward')$(has "$TMP/net1.xml" '<forward')" nono
B cleanup web >/dev/null 2>&1
row 'isolated networks: gone after cleanup' "$(virsh b net-list --all --name | grep farshore-test | xargs)" ''
B failover web --planned >/dev/null 2>"$TMP/notes"
virsh b dumpxml web >"$TMP/web.xml"
virsh b net-dumpxml lan >"$TMP/net.xml"
row 'resource group: on the domain' "$(has "$TMP/web.xml" farshore-web)" yes
row 'resource group: on the network' "$(has "$TMP/net.xml" farshore-web)" yes
row 'network: made where it was missing' "$(has "$TMP/notes" 'network lan made')" yes
row 'two NICs: the first in' "$(nic_of b web 52:54:00:61:00:01)" lan
row 'two NICs: the second in' "$(nic_of b web 52:54:00:61:00:02)" back
row 'address: kept when it is free' "$(reserved b lan 52:54:00:61:00:01)" 10.61.0.42
row 'address: else the next' "$(reserved b back 52:54:00:61:00:02)" 10.62.0.43
row 'address: both shown' "$(has "$TMP/notes" '10.61.0.42 kept')$(has "$TMP/notes" '10.62.0.43 (the one it had is not free')" yesyes
row 'folder' "$(ls "$V"/state-b/disks/web/vda.*.img >/dev/null && echo yes)" yes
row 'mount' "$(findmnt -no FSTYPE "$V/state-b/mounts/web")" fuse.farshore

say "back, by the same mapping"
wait_for 60 counts_past b web 0 # it hears the button
B commit web >/dev/null 2>&1
B reprotect web >/dev/null 2>&1
A failover web --planned >/dev/null 2>"$TMP/notes" || fail "$(cat "$TMP/notes")"
row 'mapping: used on the way back, NIC 0' "$(nic_of a web 52:54:00:61:00:01)" lan
row 'mapping: used on the way back, NIC 1' "$(nic_of a web 52:54:00:61:00:02)" dmz
A commit web >/dev/null 2>&1
A reprotect web >/dev/null 2>&1
wait_for 60 counts_past a web "$(found a web)"
row 'way back: one vault beside each store' "$(ls -d "$TMP/cache/_back-vault" "$TMP/target/_back-cache" 2>/dev/null | wc -l)" 2

say "every default overridden"
A enable own --domain own --cache "$CACHE" --target "$TARGET" --target-host nobody >/dev/null
A set own target.hosts=b target.resource-group=blue target.availability-set=front target.name=own-b \
    target.network.0=front target.subnet.0=10.72.0.0/24 target.address.0=10.72.0.77 \
    target.test-network=tests target.folder="$V/own-disks" target.mount="$V/own-mount" \
    target.back-cache="file://$TMP/own-bc" target.back-target="file://$TMP/own-bt" \
    target.memory-check=off target.cpu-check=off >/dev/null
row 'checks of the validator' "$(A glance own | jq -r '.settings | .["memory-check"] + .["cpu-check"]')" offoff
join_all own
virsh a start own
wait_for 60 counts_past a own 0
A point own --wait=target >/dev/null
A test-failover own >/dev/null 2>&1
row 'test network' "$(virsh b net-list --name | grep -x tests)" tests
row 'name of the drill' "$(virsh b list --name | xargs)" own-b-test-1
A cleanup own >/dev/null 2>"$TMP/err" || fail "$(cat "$TMP/err")"
A failover own --planned --json >"$TMP/out" 2>/dev/null
A job "$(jq -r .job "$TMP/out")" --json >"$TMP/notes"
virsh b dumpxml own-b >"$TMP/own.xml"
row 'hosts' "$(A glance own | jq -r .target_host)" b
row 'name' "$(virsh b list --name | xargs)" own-b
row 'resource group' "$(has "$TMP/own.xml" "group=['\"]blue['\"]")" yes
row 'network' "$(nic_of b own-b 52:54:00:61:00:03)" front
row 'subnet and address' "$(has "$TMP/notes" 'network front, subnet 10.72.0.0/24, address 10.72.0.77')" yes
row 'folder' "$(ls "$V"/own-disks/vda.*.img >/dev/null && echo yes)" yes
row 'mount' "$(findmnt -no FSTYPE "$V/own-mount")" fuse.farshore
B commit own >/dev/null 2>&1
B reprotect own >/dev/null 2>&1
row 'stores of the way back' "$(ls -d "$TMP/own-bc/own" "$TMP/own-bt/own" | wc -l)" 2

say "an availability set of two; own runs on b"
A set web target.availability-set=front target.resource-group=green >/dev/null
expect_exit 2 'beside own of availability set front' A failover web --planned
row 'availability set: refused with one host' "$(state_of a web)" none
virsh b undefine web # which is where the machines of c run, too
A set web target.hosts=b,c >/dev/null
A failover web --planned >/dev/null 2>"$TMP/notes" || fail "$(cat "$TMP/notes")"
row 'availability set: kept apart on two' "$(C glance web | jq -r .target_host)" c
row 'availability set: it runs there' "$(findmnt -no FSTYPE "$V/state-c/mounts/web")" fuse.farshore
row 'resource group: a folder of its own' "$(ls "$V"/state-c/disks/green/web/vda.*.img >/dev/null && echo yes)" yes
say "done"
