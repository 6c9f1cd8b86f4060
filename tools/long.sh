#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The long set: what is too long for the test command, row by row; `tools/long.sh ROW...` runs the
# named ones. A row that passed is not run again for the same commit unless it is named. Five rows
# run at a time: two that mostly wait, behind those two that compute, and behind all the fuzzing,
# which has what processor time is left; a row's words are in build/long.ROW.
#   overload   a guest that writes five times what goes up, for OVERLOAD_SECONDS (3600); full file
#              systems, a host short of memory, a store that refuses half of all requests
#   fuzz       libFuzzer on every parser, FUZZ_SECONDS each (600), FUZZ_JOBS at once (4); a target that
#              passed is not run again for the same commit, whichever other failed
#   simulator  SIM_HISTORIES (100,000) fresh histories
#   crashes    every crash state of a source and its shipper, of all workloads of three operations
#   thinning   retention against its own oracle, from THINNING_SEEDS (1000) seeds
#   failn      every call of nine operations failed once and for ever, in one process, under
#              AddressSanitizer, and, FAILN_MOUNTS at once (8), through real mounts (tests/failn)
#   mutate     each durable step taken out in turn; a test must turn red (tools/mutate.sh)
#   kills      every kill test at full strength
#   verbs      each failover verb killed behind each of its steps, of its job, of its job elsewhere
#   fencing    copies of a host, sleepers, restored states, processors killed: FENCING_ROUNDS (6) times on
#              each store, on one that loses replies and whose lists lag, and the processor killed at each
#              call there; the seed is printed, SEED repeats it
#   points     the main job under the oracle, three times over
#   debian     a drill of a guest with a real Debian root, the source going on
#   kernel     a host short of memory and the kill tests in a machine with Debian's own kernel, which has
#              no FUSE_NOTIFY_RESEND, and where root has every capability (tests/servers/in_debian.sh)
#   swift      OpenStack Swift, which has no conditional writes, is refused
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
: "${FUZZ_SECONDS:=600}" "${FUZZ_JOBS:=4}" "${SIM_HISTORIES:=100000}" "${THINNING_SEEDS:=1000}"
: "${FAILN_MOUNTS:=8}" "${FENCING_ROUNDS:=6}" "${OVERLOAD_SECONDS:=3600}"
export FARSHORE_TEST_REQUIRE=1

e2e() { bash "tests/e2e/$1_test.sh" "$PWD" "$PWD/build/farshore"; }

row_overload() {
    export STRESS_SECONDS=$OVERLOAD_SECONDS
    e2e overload && e2e full && e2e short_memory &&
        FAULTY_OPTIONS="--record --status 0 --retry-after 1" STRESS_SECONDS=120 \
            bash tests/servers/with.sh faulty bash tests/servers/unwilling.sh "$PWD" "$PWD/build/farshore"
}
row_fuzz() {
    build build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" \
        -DFARSHORE_SANITIZE=address,undefined -DFARSHORE_FUZZ=ON
    export FUZZ_SECONDS FUZZ_DONE=build-fuzz/fuzz.$commit
    printf '%s\n' tests/fuzz/*_fuzz.c | xargs -P "$FUZZ_JOBS" -n 1 bash tools/fuzz.sh
}
# The command JOBS times at once, each with its number, from 0, as the last word; fails when one does.
on_each() { # JOBS COMMAND...
    local job failed=0 pids=()
    for job in $(seq 0 $(($1 - 1))); do "${@:2}" "$job" & pids+=($!); done
    for job in "${pids[@]}"; do wait "$job" || failed=1; done
    return $failed
}
# A broken promise prints its seed.
histories() { # JOB
    SIM_FIRST=$((first + $1 * SIM_HISTORIES)) SIM_FRESH=$((SIM_HISTORIES / jobs)) \
        build/tests/test.sim.sim >"build/simulator.$1" 2>/dev/null
}
row_simulator() {
    local jobs first failed=0
    jobs=$(nproc) first=$(($(date +%s) * 1000000))
    on_each "$jobs" histories || failed=1
    grep -hE '^sim:|histories|copied' build/simulator.*
    return $failed
}
row_crashes() {
    build/tests/test.fs.disk.crash_source >build/crashes 2>&1 || { tail -n 20 build/crashes; return 1; }
    grep states, build/crashes
}
retention() { # JOB
    THINNING_ROUNDS=$((THINNING_SEEDS / jobs)) THINNING_SEED=$((1 + $1 * THINNING_SEEDS)) \
        build/tests/test.fs.view.thinning
}
row_thinning() {
    local jobs
    jobs=$(nproc)
    on_each "$jobs" retention
}
through_mounts() { # JOB
    FAILN_SHARE=$FAILN_MOUNTS FAILN_PART=$1 bash tests/failn/fuse.sh "$PWD" "$PWD/build/farshore"
}
row_failn() {
    build build-asan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DFARSHORE_SANITIZE=address,undefined
    local failed=0 mounts
    on_each "$FAILN_MOUNTS" through_mounts & mounts=$! # they mostly wait
    build/tests/test.failn.failn || failed=1
    build-asan/tests/test.failn.failn || failed=1
    wait "$mounts" || failed=1
    return $failed
}
row_mutate() { tools/mutate.sh; }
row_kills() {
    local resend
    for resend in on off; do
        FARSHORE_RESEND=$resend KILLS=100 STALL_MS=1000 e2e mount_kill || return
        FARSHORE_RESEND=$resend KILLS=100 e2e local_faults || return
    done
    KILL_ALL=1 e2e kill_steps && bash tests/e2e/no_worker.sh "$PWD" "$PWD/build/farshore"
}
row_verbs() { KILL_ROUNDS=all e2e verb_kill; }
row_fencing() {
    local server dialect with=(bash tests/servers/with.sh) of=("$PWD" "$PWD/build/farshore")
    for server in file azurite radosgw; do
        ROUNDS=$FENCING_ROUNDS "${with[@]}" "$server" bash tests/servers/fencing.sh "${of[@]}" || return
    done
    for dialect in s3 azure; do
        export FAULTY_DIALECT=$dialect
        ROUNDS=$FENCING_ROUNDS FAULTY_OPTIONS="--lag-ms 30000 --fault PUT:lose-reply=30%" \
            "${with[@]}" faulty bash tests/servers/fencing.sh "${of[@]}" || return
        FAULTY_OPTIONS=--tell "${with[@]}" faulty bash tests/servers/killed_processor.sh "${of[@]}" || return
    done
}
row_points() { for _ in 1 2 3; do e2e points || return; done; }
row_debian() {
    packages_install debootstrap &&
        bash tests/servers/libvirt.sh "a b" bash tests/servers/debian_guest.sh "$PWD" "$PWD/build/farshore"
}
row_kernel() {
    packages_install debootstrap &&
        bash tests/servers/in_debian.sh "$PWD" "$PWD/build/farshore" short_memory \
            "LOAD_RATE=512k LOAD_THREADS=1 mount_kill" local_faults kill_steps
}
row_swift() {
    packages_install "${LONG_PACKAGES[@]}" &&
        bash tests/servers/with.sh swift bash tests/servers/refused.sh "$PWD" "$PWD/build/farshore"
}

build_optimised
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
done_file=build/long.$commit

run_row() { # ROW
    local began=$SECONDS
    if ("row_$1") >"build/long.$1" 2>&1; then # no command of a row ends it by failing, here
        echo "$1" >>"$done_file"
        echo "== $1: passed, $((SECONDS - began)) s"
        tail -n 5 "build/long.$1"
    else
        tail -n 40 "build/long.$1"
        echo "== $1: FAILED after $((SECONDS - began)) s"
        return 1
    fi
}
run_rows() { # ROW...
    local row failed=0
    for row in "$@"; do
        if [ $named = no ] && grep -qx "$row" "$done_file" 2>/dev/null; then
            echo "== $row: passed before"
        else
            run_row "$row" || failed=1
        fi
    done
    return $failed
}

if [ $# -gt 0 ]; then
    named=yes
    run_rows "$@"
    exit
fi
named=no failed=0
run_rows overload points debian swift crashes & waiting=($!)
run_rows verbs fencing kills kernel & waiting+=($!)
renice -n 10 $$ >/dev/null # not those that wait
(renice -n 19 $BASHPID >/dev/null && run_rows fuzz) & waiting+=($!)
run_rows simulator failn & waiting+=($!)
run_rows thinning mutate || failed=1
for rows in "${waiting[@]}"; do wait "$rows" || failed=1; done
echo "== the long set: $SECONDS s"
exit $failed
