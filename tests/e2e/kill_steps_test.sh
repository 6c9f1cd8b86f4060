#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Processes killed at chosen calls (by tests/e2e/faulty_io.c): the worker before and after each object
# of an epoch went up, and between the cut and its last read; the processor before and after each
# object that it puts or removes. Under load no name is jammed, nobody is fenced, every point is a cut,
# and history ends as if nothing had happened. KILL_ALL=1 takes larger
# epochs and every step of them.
. "$(dirname "$0")/lib.sh" "$@"
SEED=${SEED:-$RANDOM}
mib=${KILL_ALL:+20}
mib=${mib:-9}
parts=$(((mib + 7) / 8))

enable_vm step 24M a c
join_vm step
mkdir "$TMP/src"
faulty A mount step "$TMP/src" --cut-interval 3600
"$ORACLE" write "$TMP/log" 600 2 "$SEED" "$TMP/src/c.img" & writer=$!
PIDS+=($writer)

# What is written is new, or the digests would leave it out.
killed_at() { # CALL ACTION COUNT PATH
    dd if=/dev/urandom of="$TMP/src/a.img" bs=1M count=$mib oflag=direct conv=notrunc status=none
    spoil "$1" "$2" "$3" -1 "$4"
    ! A point step --wait --timeout 60 2>"$TMP/err" || fail "the worker was not killed: $*"
    grep -q 'hung up' "$TMP/err" || { cat "$TMP/err"; fail "it does not say why"; }
    [ ! -e "$TMP/faulty/$1" ] || fail "the rule was not met: $*"
    wait_for 60 point "$1 $2 $3"
    [ "$(A status step --json | jq -r '.vms[0].state')" = protected ] || fail "$(A status step)"
}
point() { last=$(A point step --wait --timeout 60 --label "$1" 2>/dev/null); }

point first
say "the worker is killed at objects of an epoch"
for count in $(seq $((parts + 1))); do # the parts and the end object
    [ -z "${KILL_ALL:-}" ] && [ "$count" -gt 1 ] && [ "$count" -le "$parts" ] && continue
    killed_at link kill "$count" "$TMP/cache/step/"
    killed_at link kill-after "$count" "$TMP/cache/step/"
done
say "and between the cut and its last read"
for count in ${KILL_ALL:+1 40} $((mib * 4)); do killed_at pread kill "$count" "$TMP/disks/a.raw"; done
touch "$TMP/log.stop"
wait "$writer"
point last
A unmount "$TMP/src" --wait

say "the history, undisturbed"
history() { "$@" points step --json | jq -c '.points[]'; }
C() { FARSHORE_CONFIG=$TMP/c/config FARSHORE_STATE=$TMP/c/state FARSHORE_RUN=$TMP/c/run "$FARSHORE" "$@"; }
C join "$TARGET" --key "$key"
cp -a "$TMP/cache" "$TMP/cache.kept"
cp -a "$TMP/target" "$TMP/target.kept"
C process step --once >>"$TMP/process.log"
C process step --once >>"$TMP/process.log" # and what killed workers left behind
history C >"$TMP/undisturbed"
left() { (cd "$TMP/cache" && find . -type f | grep -v -e /progress/ -e /check- -e ^./.tmp/ | sort); }
left >"$TMP/left"
! grep parts "$TMP/left" || fail "parts of no epoch are left in the cache"

say "the processor is killed at each object that it puts or removes"
as_it_was() { # also what the host has seen of the history
    rm -rf "$TMP/cache" "$TMP/target" "$TMP/b/state"
    cp -a "$TMP/cache.kept" "$TMP/cache"
    cp -a "$TMP/target.kept" "$TMP/target"
    cp -a "$TMP/b.kept" "$TMP/b/state"
}
mkdir -p "$TMP/b/state"
cp -a "$TMP/b/state" "$TMP/b.kept"
for rule in "link kill $TMP/target/" "link kill-after $TMP/target/" "unlink kill $TMP/cache/"; do
    set -- $rule
    as_it_was
    kills=0
    for count in $(seq 100); do
        spoil "$1" "$2" "$count" -1 "$3"
        status=0
        { faulty B process step --once || status=$?; } >>"$TMP/process.log" 2>&1
        [ $status -ne 0 ] || break
        [ $status -eq 137 ] || fail "the processor ended with $status"
        kills=$((kills + 1))
        history B >"$TMP/now"
        [ -z "$(comm -23 <(sort "$TMP/now") <(sort "$TMP/undisturbed"))" ] || fail "a point is listed that should not be"
    done
    rm "$TMP/faulty/$1"
    echo "$1 $2: killed $kills times"
    [ $kills -gt 2 ] || fail "there was nothing to kill it at"
done
B process step --once >>"$TMP/process.log"
B process step --once >>"$TMP/process.log"
history B | diff "$TMP/undisturbed" - || fail "the history differs"
left | diff "$TMP/left" - || fail "other objects are left in the cache"
mkdir "$TMP/rec"
B recover "$TMP/rec"
check_points step "$TMP/rec" "$TMP/log" c
for disk in a c; do cmp "$TMP/rec/step/points/$last/$disk.img" "$TMP/disks/$disk.raw"; done
umount "$TMP/rec"
say "passed"
