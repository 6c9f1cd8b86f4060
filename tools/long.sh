#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The long set: what is too long for the test command, row by row; `tools/long.sh ROW...` runs the
# named ones. A row that passed is not run again for the same commit unless it is named.
#   simulator  thousands of fresh histories        kills   the worker killed 100 times under load
#   points     the main job under the oracle, three times over
#   debian     a drill of a guest with a real Debian root, the source going on
#   swift      OpenStack Swift, which has no conditional writes, is refused
#   fencing    copies of a host, sleepers, restored states, processors killed: FENCING_ROUNDS (6) times on
#              each store, on one that loses replies and whose lists lag, and the processor killed at each
#              call there; the seed is printed, SEED repeats it
#   mutate     each durable step taken out in turn; a test must turn red (tools/mutate.sh)
#   fuzz       libFuzzer on every parser, FUZZ_SECONDS each (600)
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
: "${FUZZ_SECONDS:=600}" "${SIM_HISTORIES:=3000}" "${FENCING_ROUNDS:=6}"
export FARSHORE_TEST_REQUIRE=1

e2e() { bash "tests/e2e/$1_test.sh" "$PWD" "$PWD/build/farshore"; }

row_simulator() { SIM_FRESH=$SIM_HISTORIES build/tests/test.sim.sim 2>build/simulator.log; }
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
row_mutate() { tools/mutate.sh; }
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
[ ${#rows[@]} -gt 0 ] || rows=(simulator kills points debian swift fencing mutate fuzz)
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
