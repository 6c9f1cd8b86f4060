#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The benchmark: builds the optimised binary and prints ratios and medians. They go into
# docs/RESULTS.md. As root, on a machine that is otherwise idle.
set -euo pipefail
cd "$(dirname "$0")/.."
. tools/packages.sh
packages_install "${PACKAGES[@]}" "${TEST_PACKAGES[@]}"
build_optimised
for bench in tests/bench/*.sh; do
    echo "== $(basename "$bench" .sh)"
    bash "$bench" "$PWD" "$PWD/build/farshore"
done
