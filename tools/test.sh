#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The test command. Installs what is missing, builds three times, and runs
#   1. the unit tests under AddressSanitizer and UBSan (clang),
#   2. the unit tests under ThreadSanitizer (clang),
#   3. everything (unit, style, end to end) on the optimised build (gcc); its summary comes last.
# End-to-end tests need root and /dev/fuse; without them they are skipped, and say so. Servers are
# installed, so a test whose server does not run fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
export FARSHORE_TEST_REQUIRE=1
CTEST=(ctest -j "$(nproc)" --output-on-failure --no-tests=error)

build_optimised
build build-asan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DFARSHORE_SANITIZE=address,undefined
build build-tsan -DCMAKE_C_COMPILER=clang -DCMAKE_BUILD_TYPE=Debug -DFARSHORE_SANITIZE=thread

# A hundred thousand openings of a source take too long here; other tests open some.
echo "== unit tests, address and undefined-behaviour sanitizers"
"${CTEST[@]}" --test-dir build-asan -L unit -E '\.crash_source$'
# TSan's memory layout wants the kernel's randomisation off; the simulator, the crash states, the
# replayed corpora and compaction have one thread and nothing for it to find.
echo "== unit tests, thread sanitizer"
setarch "$(uname -m)" -R "${CTEST[@]}" --test-dir build-tsan -L unit -E '^(sim|fuzz)\.|\.crash_|\.thinner_compact$'
echo "== all tests, optimised build"
"${CTEST[@]}" --test-dir build
