#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A VM goes on elsewhere from an earlier point: its source is fenced and says so, what it left behind
# stays readable as a branch, also what it had shipped and nobody had applied.
. "$(dirname "$0")/lib.sh" "$@"
CLAIM=$(dirname "$FARSHORE")/tests/claim

enable_vm vm 8M root
join_vm vm
A set vm cut_interval=3600 >/dev/null # no cut but those that are asked for
mount_vm vm
img=$TMP/src/root.img
fill() { # BYTE: the first 64 KiB
    head -c 64K /dev/zero | tr '\0' "$1" | dd of="$img" bs=64k conv=notrunc,fsync status=none
}
content() { head -c 1 "$1"; }

say "three points that are applied, two that are not"
for byte in a b c; do
    fill $byte
    point=$(A point vm --wait)
    declare "point_$byte=$point"
done
B process vm --once >/dev/null
for byte in d e; do
    fill $byte
    point=$(A point vm --wait)
    declare "point_$byte=$point"
done

say "a claim from the second point, with the cache out of reach"
gen1=$(B points vm --json | jq -r '.points[0].generation')
claimed=$("$CLAIM" vm "$TARGET" - "$key" "$point_b" "failed over to host b")
[[ $claimed == g0002-*" pending tail 0/0" ]] || fail "claimed: $claimed"
[ "$(B points vm --json | jq -r '.points[-1].id')" = "$point_b" ] || fail "the line goes on beyond"

say "a processor fences the source, which says where the VM has gone"
B process vm --once >/dev/null
fill f
A set vm cut_interval=1 >/dev/null
wait_for 30 sh -c "FARSHORE_CONFIG=$TMP/a/config FARSHORE_STATE=$TMP/a/state FARSHORE_RUN=$TMP/a/run \
    '$FARSHORE' status vm --json | jq -e '.vms[0].state == \"fenced\"' >/dev/null"
A status vm --json | jq -r '.vms[0].reason' | says "do not start the VM here" ||
    { A status vm --json; fail "no word of what to do"; }
[ "$(content "$img")" = f ] || fail "the guest's write is gone"
expect_exit 4 "fenced" A point vm --wait

say "what was left behind"
B points vm --branch --json >"$TMP/branch.json"
jq -e --arg g "$gen1" --arg n "$gen1/$point_c" '.points[0].name == $n and (.points | length) == 1
    and .waiting[0].generation == $g and .waiting[0].points == 2 and .waiting[0].fenced' \
    "$TMP/branch.json" >/dev/null || { cat "$TMP/branch.json"; fail "points --branch --json"; }
B points vm --branch | says "process vm --once --branch" || fail "no word of the tail"
B process vm --once --branch >/dev/null
[ "$(B points vm --branch --json | jq -r '[.points[].name] | join(" ")')" = \
    "$gen1/$point_c $gen1/$point_d $gen1/$point_e" ] || fail "the tail is no branch"
[ "$(B points vm --branch --json | jq '.waiting | length')" = 0 ] || fail "something still waits"
B verify vm --point "$gen1/$point_e" >/dev/null
expect_exit 3 "no recovery point" B verify vm --point "$point_e"

say "and opens like every other"
mkdir -p "$TMP/rec"
B recover "$TMP/rec" --vm vm
[ "$(content "$TMP/rec/vm/latest/root.img")" = b ] || fail "latest is another point"
[ "$(ls "$TMP/rec/vm/branches")" = "$gen1" ] || fail "no branches folder"
for byte in c d e; do
    point="point_$byte"
    [ "$(content "$TMP/rec/vm/branches/$gen1/${!point}/root.img")" = $byte ] || fail "branch $byte"
done

say "a point that is open stays open when it is left behind"
exec 9<"$TMP/rec/vm/points/$point_b/root.img"
claimed=$("$CLAIM" vm "$TARGET" "$CACHE" "$key" "$point_a" "changed")
[[ $claimed == g0003-*" fenced tail 0/0" ]] || fail "claimed: $claimed"
wait_for 30 test -e "$TMP/rec/vm/branches/$gen1/$point_b"
[ "$(head -c 1 <&9)" = b ] || fail "the open point is gone"
exec 9<&-
umount "$TMP/rec"
A unmount "$TMP/src" # says that not all is shipped
