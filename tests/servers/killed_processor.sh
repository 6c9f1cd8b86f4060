#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The processor is killed at each of its calls in turn: the store carries the call out and does not
# answer, and then the process dies. (A death between two calls that change something is as one at
# the first of them, so only these are counted.) What is listed then is whole, what is not waits in
# the cache, and the next processor ends as if nothing had been. FIRST is the first call at which it
# dies: 7 passes over most of its tries whether the stores are what they should be.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"
FIRST=${FIRST:-0}
told=$FARSHORE_TEST_FOLDER/faulty.log

ship() { # BYTES: an epoch that ends with the disk as it is now
    head -c "$1" /dev/urandom >"$TMP/content"
    dd if="$TMP/content" of="$TMP/src/os.img" bs=64K conv=notrunc,fsync status=none
    id=$(A point web --wait)
    epoch=$(A status web --json | jq '.vms[0].epoch')
    echo "$epoch $id $(sha256sum <"$TMP/disks/os.raw")" >>"$TMP/shipped"
}

# A processor whose call that changes something, behind so many others, is its last one. False: it
# came to its end before.
killed_behind() { # CALLS
    local seen
    seen=$(wc -l <"$told")
    give_faults "PUT,DELETE,POST:stall=1@$1"
    b exec "$FARSHORE" process web --once >"$TMP/process.log" 2>&1 &
    processor=$!
    PIDS+=($processor)
    while [ "$(wc -l <"$told")" -eq "$seen" ]; do
        if ! kill -0 $processor 2>/dev/null; then
            wait $processor || fail "it failed: $(cat "$TMP/process.log")"
            give_faults
            return 1
        fi
        sleep 0.02
    done
    kill -KILL $processor
    { wait $processor || true; } 2>/dev/null
    give_faults
    tail -1 "$told" | sed 's/^fault/  killed at/'
}

# What is listed is what was shipped so far. Sets `newest`; $TMP/waiting is what is not listed.
look() {
    local n
    B points web --json | jq -r '.points[] | "\(.epoch) \(.id)"' >"$TMP/listed"
    n=$(wc -l <"$TMP/listed")
    head -n "$n" "$TMP/shipped" | cut -d' ' -f1,2 | cmp - "$TMP/listed" ||
        fail "listed: $(cat "$TMP/listed")"
    newest=$(tail -1 "$TMP/listed" | cut -d' ' -f2)
    tail -n +$((n + 1)) "$TMP/shipped" >"$TMP/waiting"
}

check_waiting() {
    while read -r epoch _; do
        holds cache "$(printf 'web/%s/%016d' "$generation" "$epoch")" ||
            fail "epoch $epoch is neither listed nor in the cache"
    done <"$TMP/waiting"
}

# Points opened on a recovery mount show what the disk held.
check_content() { # POINT...
    local id sum
    B recover "$TMP/rec" --vm web
    for id in "$@"; do
        sum=$(sha256sum <"$TMP/rec/web/points/$id/os.img")
        grep -F " $id " "$TMP/shipped" | cut -d' ' -f3- | says -xF "$sum" || fail "$id shows something else"
    done
    umount "$TMP/rec"
}

say "enabled"
enable_vm web 4M os >/dev/null
mount_vm web --cut-interval 3600
generation=$(A status web --json | jq -r '.vms[0].generation')
join_vm web
mkdir "$TMP/rec"
# The first cut may be one that nobody asked for.
A point web --wait >/dev/null
B process web --once >/dev/null
B points web --json | jq -r '.points[] | "\(.epoch) \(.id)"' | sed "s/\$/ $(sha256sum <"$TMP/disks/os.raw")/" \
    >"$TMP/shipped"

calls=$FIRST
while
    ship 2M  # with a part of its own
    ship 64K # an entry alone
    freeze a web # the store's calls are the processor's
    killed_behind $calls
do
    look
    check_waiting
    check_content "$newest"
    B process web --once >/dev/null
    look
    [ ! -s "$TMP/waiting" ] || fail "the next processor has not applied: $(cat "$TMP/waiting")"
    thaw
    calls=$((calls + 1))
done
[ $calls -ge $((FIRST + 7)) ] || fail "it made only $calls calls"

say "killed at each of $calls calls; every point is good, and the cache as after one that lived"
look
check_content $(cut -d' ' -f2 "$TMP/shipped")
names_in cache web | grep "^web/$generation/" | sed 's#.*/##' | sort >"$TMP/left"
tail -2 "$TMP/shipped" | cut -d' ' -f1 | xargs -n1 printf '%016d\n' | cmp - "$TMP/left" ||
    fail "left in the cache: $(cat "$TMP/left")"
thaw
A unmount "$TMP/src" --wait
say "passed"
