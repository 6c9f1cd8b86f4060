#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Local I/O that goes wrong under a real mount, made so by tests/e2e/faulty_io.c: a sync that fails, a
# sync and a discard that hang, a block that cannot be read, a request that ends every worker, and
# workers killed while their last writes are still under way.
. "$(dirname "$0")/lib.sh" "$@"
MAIN=$(dirname "$FARSHORE")/tests/mount_main
SEED=${SEED:-$RANDOM}

block() { # IMAGE BLOCK [COUNT]: random data there
    dd if=/dev/urandom of="$1" bs=4096 seek="$2" count="${3:-1}" conv=notrunc oflag=direct status=none
}
# Sets `made`, and keeps what the local files hold to be compared at the end.
point() {
    made=$(A point odd --wait --timeout 60)
    mkdir "$TMP/at/$made"
    cp "$TMP/disks"/*.raw "$TMP/at/$made"
}
log_says() { grep -q "$1" "$TMP/a/state/vms/odd/mount.log"; }
fails_by_eio() { # COMMAND...
    ! "$@" 2>"$TMP/err" || fail "it succeeded: $*"
    grep -q 'Input/output error' "$TMP/err" || { cat "$TMP/err"; fail "not EIO: $*"; }
}

enable_vm odd 8M a b c
mkdir "$TMP/src" "$TMP/at"
faulty A mount odd "$TMP/src" --cut-interval 3600
a=$TMP/src/a.img raw=$TMP/disks/a.raw
block "$a" 0 2048
sync "$a"
point

say "a sync that fails: none pretends afterwards, and the next point shows what the disk holds"
cp "$raw" "$TMP/before"
block "$a" 9
point # block 9 is in the replica, and was never synced
dd if="$TMP/before" of="$raw" bs=4096 skip=9 seek=9 count=1 conv=notrunc status=none # the device lost it
spoil fdatasync eio 1 -1 "$raw"
fails_by_eio sync -d "$a"
fails_by_eio sync -d "$a"
kill -KILL "$(A status odd --json | jq '.vms[0].worker_pid')"
fails_by_eio sync -d "$a"
sync -d "$TMP/src/b.img" || fail "another disk's sync fails"
point
expect_exit 1 'sync.* failed' A unmount "$TMP/src" --wait
faulty A mount odd "$TMP/src" --cut-interval 3600
sync -d "$a" || fail "a sync fails for ever"
A unmount "$TMP/src" --wait
faulty A mount odd "$TMP/src" --cut-interval 3600 # with no intent mark set

say "a sync and a discard that hang hold up their own disk only"
hangs() { # CALL PATH COMMAND...: while its call on PATH does, others go on
    local hanging
    for _ in 1 2; do # the shipper, too, syncs now and then: then that is what hung
        spoil "$1" hold 1 -1 "$2"
        "${@:3}" & hanging=$!
        wait_for 10 test -e "$TMP/faulty/held"
        "$ORACLE" write "$TMP/log" 1 2 "$SEED" "$TMP/src/b.img"
        kill -0 $hanging 2>/dev/null && break
        hanging=
        rm "$TMP/faulty/held"
    done
    [ -n "$hanging" ] || fail "it did not hang: ${*:3}"
    rm "$TMP/faulty/held"
    wait $hanging || fail "slow, it failed: ${*:3}"
}
hangs fdatasync "$raw" sync -d "$a"
hangs fallocate "$raw" fallocate --punch-hole --offset 40960 --length 8192 "$a"
hangs fdatasync "$TMP/a/state/vms/odd/a.marks" block "$a" 1024

say "a block that cannot be read ships as such"
block "$a" 100 8
block "$TMP/src/b.img" 5
spoil pread eio 0 $((103 * 4096)) "$raw"
point
bad=$made
log_says 'block 103 ships as unreadable' || fail "nothing is said of the block"
rm "$TMP/faulty/pread"
block "$a" 103
point

say "a request that ends every worker fails alone"
ulimit -c 0
spoil pwrite abort 0 $((777 * 4096)) "$raw"
"$ORACLE" write "$TMP/log" 60 4 "$SEED" "$TMP/src/c.img" & writer=$!
fails_by_eio dd if=/dev/zero of="$a" bs=1M count=8 oflag=direct conv=notrunc status=none
dd if=/dev/zero of="$a" bs=1M count=4 seek=4 oflag=direct conv=notrunc status=none
touch "$TMP/log.stop"
wait "$writer" || fail "another request failed beside the deadly one"
log_says 'ended 3 workers' || fail "the log does not name the request"
rm "$TMP/faulty/pwrite"
block "$a" 777
point

say "every point shows what the disks held, and nothing older where nothing could be read"
join_vm odd
B process odd --once
mkdir "$TMP/rec"
B recover "$TMP/rec"
"$ORACLE" check "$TMP/log" "$(date +%s%3N)" "$TMP/rec/odd/points/$made/c.img"
view=$TMP/rec/odd/points/$bad/a.img
fails_by_eio dd if="$view" bs=4096 skip=103 count=1 iflag=direct of="$TMP/read" status=none
fails_by_eio cmp "$view" "$TMP/at/$bad/a.raw"
for half in "0 103" "104 1944"; do
    set -- $half
    dd if="$view" bs=4096 skip="$1" count="$2" status=none |
        cmp -n $(($2 * 4096)) -i 0:$(($1 * 4096)) - "$TMP/at/$bad/a.raw" || fail "more than block 103 is wrong"
done
rm "$TMP/at/$bad/a.raw"
for kept in "$TMP/at"/*/*.raw; do
    image=${kept#"$TMP/at/"}
    cmp "$kept" "$TMP/rec/odd/points/${image%.raw}.img" || fail "$image is not what the disk held"
done
umount "$TMP/rec"
A unmount "$TMP/src" --wait

say "workers killed with writes under way: no old one lands on newer data"
# The disk lies on another mount whose writes are slow: they go on when who made them is killed.
mkdir "$TMP/src-below" "$TMP/src-above"
truncate -s 1M "$TMP/disks/below.raw" # which one request may write
faulty "$MAIN" mount -l "$TMP/below.log" "$TMP/src-below" x="$TMP/disks/below.raw"
A enable slow --disk x="$TMP/src-below/x.img" --cache "$CACHE" --target "$TARGET" >"$TMP/enable.log"
A mount slow "$TMP/src-above"
spoil pwrite slow 0 -1 "$TMP/disks/below.raw"
"$ORACLE" share "$TMP/log2" 60 4 "$SEED" "$TMP/src-above/x.img" & writer=$!
worker=
for _ in $(seq "${KILLS:-10}"); do
    until next=$(A status slow --json | jq -e '.vms[0].worker_pid // empty') && [ "$next" != "$worker" ]; do
        sleep 0.02
    done
    worker=$next
    sleep 0.1
    kill -KILL "$worker"
done
touch "$TMP/log2.stop"
wait "$writer" || fail "a client saw the kills"
"$ORACLE" check "$TMP/log2" "$(date +%s%3N)" "$TMP/src-above/x.img"
rm "$TMP/faulty/pwrite"
A unmount "$TMP/src-above" --wait
umount "$TMP/src-below"
say "passed"
