#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A host short of memory: a dirty ext4 on a loop device over the mount, written by more than the
# memory of a control group that mount and writers share. No deadlock, and the load finishes; keeper
# and worker are locked in memory and spared. Without CAP_SYS_RESOURCE they cannot be spared, as the
# mount warns, and then the group holds the writers alone: in it the worker was seen to wait in the
# kernel for memory that only its own answer frees. Row `kernel` of tools/long.sh has the right.
. "$(dirname "$0")/lib.sh" "$@"
: "${STRESS_SECONDS:=40}"
may_spare() { [ $((0x$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status) >> 24 & 1)) -eq 1 ]; } # CAP_SYS_RESOURCE
if [ "$STRESS_SECONDS" -gt 300 ]; then MIB=320 DISK=3G FILES=8 FILE=250; else MIB=288 DISK=512M FILES=2 FILE=130; fi
status() { A status web --json | jq -r ".vms[0].$1"; }

# A group of its own, in either version of control groups.
GROUP=
bounded_group() { # MIB
    local root=/sys/fs/cgroup limit=memory.limit_in_bytes
    if [ -f $root/cgroup.controllers ]; then
        limit=memory.max
        echo +memory 2>/dev/null >$root/cgroup.subtree_control || true
    else
        root=$root/memory
    fi
    mkdir "$root/farshore-test.$$" 2>/dev/null || return 1
    GROUP=$root/farshore-test.$$
    echo $(($1 << 20)) 2>/dev/null >"$GROUP/$limit"
}
leave_group() {
    [ -n "$GROUP" ] || return 0
    while read -r pid; do echo "$pid" >"${GROUP%/*}/cgroup.procs"; done <"$GROUP/cgroup.procs" 2>/dev/null
    rmdir "$GROUP"
}
trap 'status=$?; set +e; leave_group; (exit $status); cleanup' EXIT
bounded_group $MIB || skip "no control group with bounded memory can be made here"
inside() { bash -c 'echo $$ >"$0/cgroup.procs" && exec "$@"' "$GROUP" "$@"; }

say "a mount, and a group of $MIB MiB"
enable_vm web $DISK os >/dev/null
mkdir "$TMP/src"
if may_spare; then
    a inside "$FARSHORE" mount web "$TMP/src" --cut-interval 1
    grep -q . "$GROUP/cgroup.procs" || fail "the mount is not in the group"
else
    echo "without CAP_SYS_RESOURCE: the mount is outside of the group"
    A mount web "$TMP/src" --cut-interval 1
    grep -q 'cannot be made an I/O flusher' "$TMP/a/state/vms/web/mount.log" || fail "the mount does not warn"
fi
for who in pid worker_pid; do
    pid=$(status $who)
    locked=$(sed -n 's/^VmLck:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
    [ "$locked" -gt 1024 ] || fail "the memory of $who is not locked: $locked KiB"
    may_spare || continue
    # PF_MEMALLOC_NOIO and PF_LOCAL_THROTTLE are what PR_SET_IO_FLUSHER sets.
    flags=$(awk '{print $9}' "/proc/$pid/stat")
    score=$(cat "/proc/$pid/oom_score_adj")
    [ "$score" -eq -1000 ] || fail "$who is not spared by the OOM killer: $score"
    [ $((flags & 0x180000)) -eq $((0x180000)) ] || fail "$who is no I/O flusher: $flags"
done

say "an ext4 on a loop device over it"
mkfs.ext4 -q -F "$TMP/src/os.img"
mkdir "$TMP/fs"
mount -o loop "$TMP/src/os.img" "$TMP/fs"
writers=()
for i in $(seq $FILES); do
    inside dd if=/dev/urandom of="$TMP/fs/file-$i" bs=1M count=$FILE status=none & writers+=($!)
done
ends() { # PID WHAT SECONDS
    local end=$((SECONDS + $3))
    while kill -0 "$1" 2>/dev/null; do
        # What waits in the kernel is freed by that alone.
        [ $SECONDS -lt $end ] || { umount -f "$TMP/src" || true; fail "$2 hangs"; }
        sleep 0.2
    done
    wait "$1" || fail "$2 failed (exit $?)"
}
for pid in "${writers[@]}"; do ends "$pid" "a writer" $((STRESS_SECONDS * 8)); done
sync -f "$TMP/fs" &
ends $! "the sync" $((STRESS_SECONDS * 8))
sha256sum "$TMP"/fs/file-* >"$TMP/sums"
[ "$(status worker_restarts)" = 0 ] || fail "the worker was restarted"
for file in memory.peak memory.max_usage_in_bytes; do
    [ ! -f "$GROUP/$file" ] || echo "peak of the group: $(($(cat "$GROUP/$file") >> 20)) MiB of $MIB"
done

say "and what was written is what is there"
umount "$TMP/fs"
mount -o loop "$TMP/src/os.img" "$TMP/fs"
sha256sum -c --quiet "$TMP/sums" || fail "files differ"
umount "$TMP/fs"
A unmount "$TMP/src" --wait --timeout 120
say "passed"
