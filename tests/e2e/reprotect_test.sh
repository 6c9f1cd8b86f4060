#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A reprotect whose seed breaks off: the old disk cannot be read to its end when part of it is in the
# vault already. The VM is protected all the same.
. "$(dirname "$0")/lib.sh" "$@"
name_hosts a b
enable_vm web 192M os >/dev/null
mount_vm web
join_vm web >/dev/null
for host in A B; do $host set web start=/bin/true stop=/bin/true >/dev/null; done
random() { dd if=/dev/urandom of="$1" bs=1M count=160 conv=notrunc,fsync status=none; }
random "$TMP/src/os.img"
start_processor web "$TMP/process.log"
A point web --wait=target >/dev/null
kill "$processor"
A unmount "$TMP/src" --wait
B failover web >/dev/null
B commit web >/dev/null
at=$TMP/b/state/mounts/web

say "the seed breaks off behind its first epoch${SEED_KILLED:+, and its process dies when the host has turned}"
random "$TMP/disks/os.raw" # all of it is new to the vault
mkdir -p "$TMP/faulty"
spoil pread eio 0 $((150 << 20)) "$TMP/disks/os.raw"
[ -z "${SEED_KILLED:-}" ] || spoil fsync kill 1 -1 "$TMP/a/config/vms"
faulty a exec "$FARSHORE" host a --foreground --interval 1 >>"$TMP/agent-a.log" 2>&1 &
PIDS+=($!) agent=$!
b timeout 120 "$FARSHORE" reprotect web >"$TMP/reprotect.out" 2>&1 || { cat "$TMP/reprotect.out"; fail "reprotect"; }
grep -q 'that has joined .* applies the first point' "$TMP/reprotect.out" || fail "it is not said who is waited for: $(cat "$TMP/reprotect.out")"
grep -q 'not whole' "$TMP/reprotect.out" || { cat "$TMP/reprotect.out"; fail "the seed did not break off"; }
dd if=/dev/urandom of="$at/os.img" bs=4k seek=77 count=3 conv=notrunc,fsync status=none
B point web --wait=target --timeout 60 >/dev/null || fail "no point: $(B status web --json)"
[ "$(B status web --json | jq -r '.vms[0].state')" = protected ] || fail "$(B status web --json)"

wait_for 60 hydrated b
say "the newest point is the disk"
id=$(B point web --wait=target)
B unmount "$at" --wait
mkdir -p "$TMP/rec"
A recover "$TMP/rec" --vm web
cmp "$TMP/rec/web/points/$id/os.img" "$(find "$TMP/b/state/disks" -name 'os*' -size +100M | head -1)" || fail "the point is not the disk"
umount "$TMP/rec"
say "passed"
