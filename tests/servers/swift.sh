# SPDX-License-Identifier: MIT
# OpenStack Swift with its S3 interface (s3api, tempauth), one copy of everything; sourced by
# with.sh. It has no conditional writes: a real store that must be refused.
# shellcheck shell=bash disable=SC2154

swift_conf() { # account|container|object PORT
    cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $2
user = $(id -un)
swift_dir = $FOLDER
devices = $FOLDER/devices
mount_check = false
workers = 0
log_address = $FOLDER/no-syslog
[pipeline:main]
pipeline = $1-server
[app:$1-server]
use = egg:swift#$1
CONF
}

swift_proxy_conf() { # PORT SECRET
    cat <<CONF
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = $1
user = $(id -un)
swift_dir = $FOLDER
workers = 0
log_address = $FOLDER/no-syslog
[pipeline:main]
pipeline = catch_errors proxy-logging cache listing_formats s3api tempauth copy slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:tempauth]
use = egg:swift#tempauth
user_far_shore = $2 .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
location = us-east-1
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:9
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:proxy-logging]
use = egg:swift#proxy_logging
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
CONF
}

# One partition power of four, one copy, one device.
swift_ring() { # account|container|object PORT
    local ring=$FOLDER/$1.builder
    swift-ring-builder "$ring" create 2 1 1 &&
        swift-ring-builder "$ring" add "r1z1-127.0.0.1:$2/one" 1 &&
        swift-ring-builder "$ring" rebalance
}

start_swift() {
    local kind secret bucket
    command -v swift-proxy-server swift-account-server swift-container-server swift-object-server \
        >/dev/null || skip "no Swift (swift-proxy, swift-account, swift-container, swift-object)"
    mkdir -p "$FOLDER/devices/one"
    for kind in account container object; do
        free_port
        swift_conf $kind "$PORT" >"$FOLDER/$kind.conf"
        swift_ring $kind "$PORT" >"$FOLDER/$kind.ring.log" || { cat "$FOLDER/$kind.ring.log"; exit 1; }
        daemon "$FOLDER/$kind.log" "swift-$kind-server" "$FOLDER/$kind.conf"
    done
    free_port
    secret=$(openssl rand -hex 20)
    (umask 077 && swift_proxy_conf "$PORT" "$secret" >"$FOLDER/proxy.conf")
    daemon "$FOLDER/proxy.log" swift-proxy-server "$FOLDER/proxy.conf"
    wait_for_answer "http://127.0.0.1:$PORT/" "$FOLDER/proxy.log"
    for bucket in far-cache far-target; do
        credential "s3.$bucket" AWS_ACCESS_KEY_ID=far:shore "AWS_SECRET_ACCESS_KEY=$secret"
    done
    export FARSHORE_TEST_ENDPOINT=http://127.0.0.1:$PORT
    export FARSHORE_TEST_CACHE="s3://far-cache/some/prefix?endpoint=$FARSHORE_TEST_ENDPOINT"
    export FARSHORE_TEST_TARGET="s3://far-target?endpoint=$FARSHORE_TEST_ENDPOINT"
}
