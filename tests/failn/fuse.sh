#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fault case 25 through the kernel: mount and recover as processes, with every allocation, system
# call and store call of the keeper, the worker, the recovery mount and the verbs failed once, and
# for ever from there. What failn_test does in one process is here a real mount, in real time.
#   fuse.sh SOURCE_FOLDER BINARY [MODE:HASH:CALL]      the last is a pattern; a finding names it
# Of FAILN_SHARE stacks one is run (default 1: all).
# Passes when nothing hangs or crashes, what was answered is there, and all works again without
# failures, from the same state.
. "$(dirname "$0")/../e2e/lib.sh" "$1" "$2"
GATE=$TMP/gate
GATED=$(dirname "$FARSHORE")/tests/failn_farshore
gate() { "$(dirname "$FARSHORE")/tests/failn_gate" "$GATE" "$@"; }
: "${FAILN_SHARE:=1}" "${FAILN_PART:=0}"
ONLY=${3:-*}
ulimit -c 0

# Farshore behind the gate; its output is kept. 124 is a hang: a store that fails for ever is tried for
# a minute at a time, several times over.
gated() { FAILN_GATE=$GATE timeout -k 5 300 "$GATED" "$@" >>"$TMP/gated.log" 2>&1; }
on_a() { a gated "$@"; }
on_b() { b gated "$@"; }
finding() {
    findings=$((findings + 1))
    echo "FINDING fuse.sh SOURCE BINARY $mode:$hash:$what ($operation): $*"
    tail -n 5 "$TMP/gated.log" "$TMP/a/state/vms/web/"*.log "$TMP/b/state/"*.log 2>/dev/null || :
}
mounted() { findmnt -rno TARGET "$1" >/dev/null 2>&1; }
# What a crash of a process of ours says anywhere.
crashed() { [ "$1" -ge 128 ] || grep -qsE 'signal (6|7|8|11)\b|Assertion|core dumped' "$TMP/gated.log" "$TMP/a/state/vms/web/"*.log; }
judge() { # NAME STATUS
    [ "$2" -ne 124 ] || finding "$1 hangs"
    [ "$2" -eq 124 ] || ! crashed "$2" || finding "$1 crashes ($2)"
}
forget_logs() { : >"$TMP/gated.log"; rm -f "$TMP/a/state/vms/web/"*.log "$TMP/b/state/"*.log; }
# Ends what still stands; a mount that was refused stands nowhere.
clear_away() { # DIR
    local end=$((SECONDS + 60))
    while [ $SECONDS -lt $end ]; do
        mounted "$1" || return 0
        timeout 20 umount "$1" 2>/dev/null || sleep 0.3
    done
    finding "$1 cannot be unmounted"
    umount -f -l "$1" || :
}

# Block 5 is written anew each time; what of it was answered must be there.
new_block() { head -c 4096 /dev/urandom >"$TMP/new"; }
write_block() { { timeout -k 2 15 dd if="$TMP/new" of="$1" bs=4096 seek=5 count=1 conv=notrunc,fsync status=none; } 2>/dev/null; }
block_of() { dd if="$1" bs=4096 skip=5 count=1 status=none; }
check_block() { # FILE: the new block; or, when it was not answered, the old one
    if block_of "$1" | cmp -s - "$TMP/new"; then
        cp "$TMP/new" "$TMP/kept"
    elif [ "$answered" = yes ] || ! block_of "$1" | cmp -s - "$TMP/kept"; then
        finding "block 5 of $1 is not what was written"
    fi
}

operation_mount() {
    local status=0
    answered=no
    new_block
    on_a mount web "$TMP/src" --cut-interval 1 || status=$?
    judge mount $status
    if [ $status -eq 0 ]; then
        ! write_block "$TMP/src/os.img" || answered=yes
        status=0; on_a point web --wait --timeout 20 || status=$?; judge point $status
        status=0; on_a unmount "$TMP/src" --wait --timeout 20 || status=$?; judge unmount $status
        [ $status -ne 0 ] || ! mounted "$TMP/src" || finding "unmount says that it is done"
    elif mounted "$TMP/src" && [ "$mode:$class" != ever:call ]; then # who may call nothing cannot unmount
        finding "mount says that it failed, and something is mounted"
    fi
    gate open
    clear_away "$TMP/src"
    check_block "$TMP/disks/os.raw"
}
operation_recover() {
    local status=0 seen=$TMP/seen
    on_b recover "$TMP/rec" --writable w || status=$?
    judge recover $status
    if [ $status -eq 0 ]; then
        if timeout -k 5 30 cp "$TMP/rec/web/latest/os.img" "$seen" 2>/dev/null; then
            cmp -s "$seen" "$TMP/disks/os.raw" || finding "wrong data is served"
        fi
        new_block
        write_block "$TMP/rec/web/latest/data.img" || :
        status=0; timeout -k 5 60 umount "$TMP/rec" || status=$?; judge umount $status
    fi
    gate open
    clear_away "$TMP/rec"
    rm -rf "$TMP/b/state/scratch"
}
afterwards() { # everything once more, nothing fails
    local end=$((SECONDS + 60))
    until A mount web "$TMP/src" >>"$TMP/gated.log" 2>&1; do
        # The last cut of a mount that has ended may still be under way.
        grep -q 'try again' "$TMP/gated.log" && [ $SECONDS -lt $end ] || { finding "afterwards: mount"; return; }
        sleep 1
    done
    cmp -s "$TMP/src/os.img" "$TMP/disks/os.raw" || finding "afterwards: the mount shows other data"
    A unmount "$TMP/src" --wait --timeout 60 >>"$TMP/gated.log" 2>&1 || finding "afterwards: unmount"
    B process web --once >>"$TMP/gated.log" 2>&1 || finding "afterwards: process"
    B recover "$TMP/rec" >>"$TMP/gated.log" 2>&1 || { finding "afterwards: recover"; return; }
    for disk in os data; do
        cmp -s "$TMP/rec/web/latest/$disk.img" "$TMP/disks/$disk.raw" || finding "afterwards: the newest point is not $disk"
    done
    umount "$TMP/rec" || finding "afterwards: umount"
    clear_away "$TMP/src"
}

enable_vm web 2M os data >/dev/null
join_vm web >/dev/null
mkdir -p "$TMP/src" "$TMP/rec"
head -c 1500000 /dev/urandom >"$TMP/disks/os.raw.new"
dd if="$TMP/disks/os.raw.new" of="$TMP/disks/os.raw" conv=notrunc status=none
block_of "$TMP/disks/os.raw" >"$TMP/kept"
answered=no findings=0 all_runs=0 all_missed=0 mode=record hash=- class=- what=nothing operation=-
afterwards
for operation in mount recover; do
    gate record
    "operation_$operation"
    [ $findings -eq 0 ] || fail "$operation without failures"
    afterwards
    gate list >"$TMP/stacks"
    runs=0 missed=0
    while read -r hash class what; do
        for mode in once ever; do
            # shellcheck disable=SC2053 # a pattern
            [[ $mode:$hash:$what == $ONLY ]] || continue
            [ $((16#${hash:8} % FAILN_SHARE)) -eq "$FAILN_PART" ] || continue
            forget_logs
            gate "$mode" "$hash"
            "operation_$operation"
            [ "$(gate failed)" -gt 0 ] || missed=$((missed + 1))
            afterwards
            runs=$((runs + 1))
        done
    done <"$TMP/stacks"
    echo "fuse $operation: $(cut -d' ' -f2 "$TMP/stacks" | sort | uniq -c | tr -s ' \n' ' ')stacks, $runs runs, $missed not met, $findings findings"
    all_runs=$((all_runs + runs)) all_missed=$((all_missed + missed))
done
[ $all_runs -gt 0 ] || fail "no stack is of that name, or of this part"
[ $((all_missed * 10)) -le $all_runs ] || fail "$all_missed of $all_runs stacks did not come by again"
[ $findings -eq 0 ]
