#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The long set: what is too long for the test command, row by row; `tools/long.sh ROW...` runs the
# named ones. A row that passed is not run again for the same commit unless it is named.
#   simulator  100,000 fresh histories              kills   the worker killed 100 times under load
#   points     the main job under the oracle, three times over
#   debian     a drill of a guest with a real Debian root, the source going on
#   swift      OpenStack Swift, which has no conditional writes, is refused
#   mutate     each durable step taken out in turn; a test must turn red (tools/mutate.sh)
#   verbs      each failover verb killed behind each of its steps, of its job, of its job elsewhere
#   fuzz       libFuzzer on every parser, FUZZ_SECONDS each (600)
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
: "${FUZZ_SECONDS:=600}" "${SIM_HISTORIES:=100000}"
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
row_kills() { KILLS=100 e2e mount_kill; }
row_points() { for _ in 1 2 3; do e2e points || return; done; }
row_swift() {
    packages_install "${LONG_PACKAGES[@]}" &&
        bash tests/servers/with.sh swift bash tests/servers/refused.sh "$PWD" "$PWD/build/farshore"
}
row_debian() {
    packages_install debootstrap &&
        bash tests/servers/libvirt.sh "a b" bash tests/servers/debian_guest.sh "$PWD" "$PWD/build/farshore"
}
row_mutate() { tools/mutate.sh; }
row_verbs() { KILL_ROUNDS=all e2e verb_kill; }
row_fuzz() {
    build build-fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug \
        -DFARSHORE_SANITIZE=address,undefined -DFARSHORE_FUZZ=ON
    local source target
    for source in tests/fuzz/*_fuzz.c; do
        target=$(basename "$source" .c)
        mkdir -p "build-fuzz/found/$target"
        "build-fuzz/tests/$target" -max_total_time="$FUZZ_SECONDS" -rss_limit_mb=2048 -print_final_stats=1 \
            "build-fuzz/found/$target" "tests/fuzz/corpus/${target%_fuzz}" 2>"build-fuzz/$target.log" ||
            { tail -40 "build-fuzz/$target.log"; return 1; }
        grep -h 'number_of_executed_units' "build-fuzz/$target.log" | sed "s/^/$target: /"
    done
}

build_optimised
done_file=build/long.$(git rev-parse --short HEAD 2>/dev/null || echo none)
rows=("$@")
[ ${#rows[@]} -gt 0 ] || rows=(simulator kills points debian swift mutate verbs fuzz)
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
