# SPDX-License-Identifier: MIT
# Ceph's S3 gateway on a cluster of one monitor and one OSD in memory, all on loopback, without
# authentication inside; sourced by with.sh. RADOSGW_STORE=bluestore keeps its objects on disk,
# RADOSGW_BYTES is how many it has room for.
# shellcheck shell=bash disable=SC2154
RADOSGW_KEY=AKFARSHORETEST

# ceph.conf for the cluster in $FOLDER. Without `crc` and `tcp_nodelay` a small request takes long;
# without the `paxos` lines each of the start's steps waits a second for nothing.
radosgw_conf() { # MON-PORT-2 MON-PORT-1 RGW-PORT
    cat <<CONF
[global]
fsid = $(cat /proc/sys/kernel/random/uuid)
mon host = [v2:127.0.0.1:$1/0,v1:127.0.0.1:$2/0]
mon initial members = a
public network = 127.0.0.0/8
cluster network = 127.0.0.0/8
cluster addr = 127.0.0.1
ms bind ipv4 = true
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
ms mon client mode = crc
ms mon cluster mode = crc
ms mon service mode = crc
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pgp num = 4
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd crush update on start = false
osd objectstore = ${RADOSGW_STORE:-memstore}
osd memory target = 939524096
mon allow pool size one = true
mon warn on pool no redundancy = false
mon max pg per osd = 1000
paxos propose interval = 0.05
paxos min wait = 0.01
mon data avail warn = 2
mon data avail crit = 1
mon data = $FOLDER/mon
osd data = $FOLDER/osd
memstore device bytes = ${RADOSGW_BYTES:-2147483648}
bluestore block size = 4294967296
bluestore block create = true
log file = $FOLDER/log/\$name.log
admin socket = $FOLDER/run/\$name.asok
run dir = $FOLDER/run
crash dir = $FOLDER/run
setuser match path =
keyring = $FOLDER/keyring
[mon.a]
public addrv = [v2:127.0.0.1:$1/0,v1:127.0.0.1:$2/0]
[osd]
public addr = 127.0.0.1
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:$3 tcp_nodelay=1
rgw dns name = localhost
rgw data = $FOLDER/rgw
rgw enable usage log = false
rgw enable ops log = false
rgw thread pool size = 64
rgw s3 auth use sts = true
rgw sts key = $(openssl rand -hex 8)
CONF
}

radosgw_cluster() { # CONF MON-PORT-2 MON-PORT-1
    local conf=$1 uuid
    ceph-authtool -C "$FOLDER/keyring" -n mon. --gen-key --cap mon 'allow *'
    ceph-authtool "$FOLDER/keyring" -n client.admin --gen-key --cap mon 'allow *' --cap osd 'allow *'
    # radosgw wants a key of its own, also where nobody asks for one.
    ceph-authtool "$FOLDER/keyring" -n client.rgw --gen-key --cap mon 'allow *' --cap osd 'allow *'
    monmaptool --create --addv a "[v2:127.0.0.1:$2,v1:127.0.0.1:$3]" \
        --fsid "$(sed -n 's/^fsid = //p' "$conf")" "$FOLDER/monmap"
    ceph-mon -c "$conf" --mkfs -i a --monmap "$FOLDER/monmap" --keyring "$FOLDER/keyring"
    daemon "$FOLDER/log/mon.log" ceph-mon -c "$conf" -i a -f
    uuid=$(cat /proc/sys/kernel/random/uuid)
    timeout 60 ceph -c "$conf" osd new "$uuid"
    timeout 60 ceph-osd -c "$conf" -i 0 --mkfs --osd-uuid "$uuid"
    timeout 60 ceph -c "$conf" osd crush add osd.0 1.0 host=h0 root=default
    daemon "$FOLDER/log/osd.log" ceph-osd -c "$conf" -i 0 -f
    timeout 60 bash -c "until [[ \$(ceph -c '$conf' osd stat) == *'1 up'* ]]; do sleep 0.2; done"
}

front_radosgw() {
    daemon "$FOLDER/log/rgw.log" radosgw -c "$FOLDER/ceph.conf" -n client.rgw -f
    FRONT=$!
}

start_radosgw() {
    local secret port mon2 mon1 bucket
    command -v radosgw ceph-mon ceph-osd >/dev/null || skip "no Ceph (radosgw, ceph-mon, ceph-osd)"
    free_port; port=$PORT
    free_port; mon2=$PORT
    free_port; mon1=$PORT
    mkdir -p "$FOLDER"/{mon,osd,rgw,run,log}
    radosgw_conf "$mon2" "$mon1" "$port" >"$FOLDER/ceph.conf"
    radosgw_cluster "$FOLDER/ceph.conf" "$mon2" "$mon1" >"$FOLDER/log/start.log" 2>&1 ||
        { tail -20 "$FOLDER/log/start.log" >&2; exit 1; }
    front_radosgw
    wait_for_answer "http://127.0.0.1:$port/" "$FOLDER/log/start.log"
    secret=$(openssl rand -hex 20)
    radosgw-admin -c "$FOLDER/ceph.conf" -n client.rgw user create --uid=farshore \
        --display-name=farshore --access-key="$RADOSGW_KEY" --secret-key="$secret" \
        >>"$FOLDER/log/start.log" 2>&1
    for bucket in far-cache far-target; do
        credential "s3.$bucket" "AWS_ACCESS_KEY_ID=$RADOSGW_KEY" "AWS_SECRET_ACCESS_KEY=$secret"
    done
    export FARSHORE_TEST_ENDPOINT=http://127.0.0.1:$port
    export FARSHORE_TEST_CACHE="s3://far-cache/some/prefix?endpoint=$FARSHORE_TEST_ENDPOINT"
    export FARSHORE_TEST_TARGET="s3://far-target?endpoint=$FARSHORE_TEST_ENDPOINT"
}
