#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No room left, in turn: in the cache store, the target store, the state folder (undo, marks,
# journal), below the local disks. Replication waits and says so; a guest's write fails only when
# it needs room that is not there; when there is room again all goes on without help. Where state
# and disks share a file system a write also takes the room of a cut's old blocks. With
# STRESS_SECONDS above 300 also the undo space by itself.
. "$(dirname "$0")/lib.sh" "$@"
case $CACHE$TARGET in file://*file://*) ;; *) skip "stores are small file systems" ;; esac

small() { # FOLDER SIZE: an ext4 file system there
    mkdir -p "$TMP/$1"
    truncate -s "$2" "$TMP/${1//\//-}.ext4"
    mkfs.ext4 -q -m 0 -N 512 -O ^has_journal "$TMP/${1//\//-}.ext4"
    mount -o loop "$TMP/${1//\//-}.ext4" "$TMP/$1"
}
fill() { # FOLDER: not one block is left. Others may take what is there meanwhile
    local left
    left=$(df --output=avail -k "$TMP/$1" | tail -1)
    [ "$left" -le 64 ] || fallocate -l $((left - 64))K "$TMP/$1/filler" || true
    dd if=/dev/zero of="$TMP/$1/filler" bs=4k oflag=append conv=notrunc status=none 2>/dev/null || true
    sync -f "$TMP/$1"
    dd if=/dev/zero of="$TMP/$1/filler" bs=512 oflag=append conv=notrunc status=none 2>/dev/null || true
}
empty() { rm "$TMP/$1/filler"; }
status() { A status web --json | jq -r ".vms[0].$1"; }
state_is() { [ "$(status state)" = "$1" ]; }
guest() { # SEEK COUNT: synced writes of 64 KiB, at once
    timeout 120 dd if=/dev/urandom of="$TMP/src/os.img" bs=64k seek="$1" count="$2" oflag=dsync conv=notrunc status=none
}
guest_is_well() { guest "$@" || fail "the guest's write failed: $what"; }
applied_is_newest() { [ "$(status applied_epoch)" = "$(status epoch)" ]; }

small cache 400M
small target 1G
small a/state 64M
small disks 160M
enable_vm web 192M os >/dev/null
mount_vm web --cut-interval 1
join_vm web >/dev/null
start_processor web "$TMP/process.log"
guest 0 64
A point web --wait=target >/dev/null

what="the cache store is full"
say "$what"
swept() { [ -z "$(find "$TMP/cache" -path '*/parts/*' -type f)" ]; }
wait_for 20 swept # what was applied before
fill cache
guest_is_well 100 64
wait_for 30 state_is stalled
status reason | says -i 'no space' || fail "it says: $(status reason)"
guest_is_well 0 64
empty cache
wait_for 60 state_is protected
A point web --wait=target --timeout 60 >/dev/null

what="the target store is full"
say "$what"
complaints() { grep -ci 'no space' "$TMP/process.log" || true; }
before=$(complaints)
complains() { [ "$(complaints)" -gt "$before" ]; }
fill target
guest_is_well 200 64
point=$(A point web --wait --timeout 30) # durable in the cache
wait_for 30 complains
kill -0 "$processor" || fail "the processor ended: $(cat "$TMP/process.log")"
applied_is_newest && fail "it was applied where there is no room"
guest_is_well 0 64
empty target
A point web --wait=target --timeout 60 >/dev/null

what="the state folder is full"
say "$what"
fill a/state
guest_is_well 0 300
guest_is_well 700 300 # regions that have no mark
wait_for 30 state_is stalled
status reason | says -i 'no space' || fail "it says: $(status reason)"
empty a/state
wait_for 60 state_is protected
A point web --wait=target --timeout 60 >/dev/null

undo_is_full() {
    what="the undo is full: more is overwritten while a cut is read than can be kept"
    say "$what"
    fill a/state
    truncate -s -2M "$TMP/a/state/filler"
    A set web bandwidth=4M >/dev/null 2>&1
    # What uploads hold in memory is taken at once: the rest waits, and is what is overwritten.
    write_all() { timeout 60 dd if=/dev/urandom of="$TMP/src/os.img" bs=1M seek="$1" count="$2" conv=notrunc status=none; }
    A pause web >/dev/null
    write_all 0 120
    A resume web >/dev/null
    rewrite() { while [ ! -e "$TMP/enough" ]; do write_all 60 60 || return; done; }
    rewrite & writer=$!
    PIDS+=($writer)
    said() { status reason | says 'no room in the state folder'; }
    wait_for 90 said
    echo "$(status state): $(status reason)"
    touch "$TMP/enough"
    wait $writer || fail "the guest's writes failed"
    A set web bandwidth=unlimited >/dev/null 2>&1
    wait_for 60 state_is protected
    empty a/state
}
[ "${STRESS_SECONDS:-0}" -le 300 ] || undo_is_full

what="the local disk is full"
say "$what"
fill disks
guest 2100 100 2>"$TMP/err" && fail "data went where there is no room"
grep -qi 'no space' "$TMP/err" || fail "the guest was told: $(cat "$TMP/err")"
guest_is_well 0 64 # what has its room
cmp -n 65536 <(dd if="$TMP/src/os.img" bs=64k skip=0 count=1 status=none) "$TMP/disks/os.raw"
A point web --wait=target --timeout 60 >/dev/null
empty disks
guest_is_well 2100 100
A point web --wait=target --timeout 60 >/dev/null

what="what room there is holds old blocks of a cut"
say "$what"
umount "$TMP/src"
small one 272M
mkdir -p "$TMP/one/disks" "$TMP/one/state"
truncate -s 192M "$TMP/one/disks/near.raw"
near() { FARSHORE_STATE=$TMP/one/state FARSHORE_CONFIG=$TMP/one-config FARSHORE_RUN=$TMP/one-run "$FARSHORE" "$@"; }
near_status() { near status near --json | jq -r ".vms[0].$1"; }
near_write() { timeout 60 dd if=/dev/urandom of="$TMP/src-near/os.img" bs=1M seek="$1" count="$2" conv=notrunc,fsync status=none; }
# Nobody processes it: its cache is to have room.
near enable near --disk "os=$TMP/one/disks/near.raw" --cache "file://$TMP/near/cache" --target "file://$TMP/near/target" >/dev/null
mkdir "$TMP/src-near"
near mount near "$TMP/src-near" --cut-interval 1
near set near bandwidth=2M >/dev/null 2>&1
end=$((SECONDS + 60))
until [ "$(near_status undo_bytes)" -gt $((32 << 20)) ]; do
    [ $SECONDS -lt $end ] || fail "old blocks take no room: $(near_status undo_bytes)"
    near_write 0 160
done
fill one
near_write 160 8 || fail "the guest's write failed: $what"
empty one
near set near bandwidth=unlimited >/dev/null 2>&1
near point near --wait --timeout 300 >/dev/null
near unmount "$TMP/src-near" --wait
near disable near >/dev/null
mount_vm web --cut-interval 1

say "the newest point is the disk"
[ "$(status worker_restarts)" = 0 ] || fail "the worker was restarted"
point=$(A point web --wait=target --timeout 60)
point_is_the_disk web "$point" os
say "passed"
