#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The long set: what is too long for the test command, row by row; `tools/long.sh ROW...` runs the
# named ones. A row that passed is not run again for the same commit unless it is named.
#   simulator  100,000 fresh histories              kills   every kill test at full strength
#   thinning   retention against its oracle, from THINNING_SEEDS seeds
#   points     the main job under the oracle, three times over
#   debian     a drill of a guest with a real Debian root, the source going on
#   swift      OpenStack Swift, which has no conditional writes, is refused
#   failn      every call of six operations failed once and for ever, in one process, under
#              AddressSanitizer, and through real mounts (tests/failn); FAILN_SHARE of each is run
#   mutate     each durable step taken out in turn; a test must turn red (tools/mutate.sh)
#   fuzz       libFuzzer on every parser, FUZZ_SECONDS each (600), FUZZ_JOBS at once (4); a target that
#              passed is not run again for the same commit, whichever other failed
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
: "${FUZZ_SECONDS:=600}" "${FUZZ_JOBS:=4}" "${SIM_HISTORIES:=100000}" "${THINNING_SEEDS:=1000}"
export FARSHORE_TEST_REQUIRE=1

e2e() { bash "tests/e2e/$1_test.sh" "$PWD" "$PWD/build/farshore"; }

# On every processor; a broken promise prints its seed.
row_simulator() {
    local job jobs first failed=0 pids=()
    jobs=$(nproc) first=$(($(date +%s) * 1000000))
    for job in $(seq "$jobs"); do
        SIM_FIRST=$((first + job * SIM_HISTORIES)) SIM_FRESH=$((SIM_HISTORIES / jobs)) \
            build/tests/test.sim.sim >"build/simulator.$job" 2>/dev/null &
        pids+=($!)
    done
    for job in "${!pids[@]}"; do wait "${pids[$job]}" || failed=1; done
    grep -hE '^sim:|histories|copied' build/simulator.*
    return $failed
}
row_thinning() { THINNING_ROUNDS=$THINNING_SEEDS THINNING_SEED=1 build/tests/test.fs.view.thinning >build/thinning.log 2>&1; }
row_kills() {
    local resend
    for resend in on off; do
        FARSHORE_RESEND=$resend KILLS=100 STALL_MS=1000 e2e mount_kill || return
        FARSHORE_RESEND=$resend KILLS=100 e2e local_faults || return
    KILL_ALL=1 e2e kill_steps && bash tests/e2e/no_worker.sh "$PWD" "$PWD/build/farshore"
row_points() { for _ in 1 2 3; do e2e points || return; done; }
row_swift() {
    packages_install "${LONG_PACKAGES[@]}" &&
        bash tests/servers/with.sh swift bash tests/servers/refused.sh "$PWD" "$PWD/build/farshore"
}
row_debian() {
    packages_install debootstrap &&
        bash tests/servers/libvirt.sh "a b" bash tests/servers/debian_guest.sh "$PWD" "$PWD/build/farshore"
}
row_failn() {
    build build-asan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DFARSHORE_SANITIZE=address,undefined
    local failed=0
    build/tests/test.failn.failn || failed=1
    build-asan/tests/test.failn.failn || failed=1
    bash tests/failn/fuse.sh "$PWD" "$PWD/build/farshore" || failed=1
    return $failed
}
row_mutate() { tools/mutate.sh; }
row_fuzz() {
    build build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g" \
        -DFARSHORE_SANITIZE=address,undefined -DFARSHORE_FUZZ=ON
    export FUZZ_SECONDS FUZZ_DONE=build-fuzz/fuzz.$commit
    printf '%s\n' tests/fuzz/*_fuzz.c | xargs -P "$FUZZ_JOBS" -n 1 bash tools/fuzz.sh
}

build_optimised
commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
done_file=build/long.$commit
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(simulator thinning kills points debian swift failn mutate fuzz)
failed=0
for row in "${rows[@]}"; do
    if [ $# -eq 0 ] && grep -qx "$row" "$done_file" 2>/dev/null; then
        echo "== $row: passed before"
        continue
    fi
    echo "== $row"
    if ("row_$row"); then # no command of a row ends it by failing, here
        echo "$row" >>"$done_file"
    else
        echo "== $row FAILED"
        failed=1
    fi
done
exit $failed
