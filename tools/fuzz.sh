#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One target of the row fuzz of tools/long.sh: tools/fuzz.sh tests/fuzz/NAME_fuzz.c, of the build in
# build-fuzz, for FUZZ_SECONDS. What it finds is kept in build-fuzz/found; an input that fails lies
# in build-fuzz as NAME-crash-*. A target that is listed in the file FUZZ_DONE is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$(basename "$1" .c)
name=${target%_fuzz}
log=build-fuzz/$target.log
if grep -qx "$name" "$FUZZ_DONE" 2>/dev/null; then
    echo "$name: passed before"
    exit 0
fi
mkdir -p "build-fuzz/found/$name"
"build-fuzz/tests/$target" -max_total_time="$FUZZ_SECONDS" -rss_limit_mb=2048 -timeout=30 \
    -artifact_prefix="build-fuzz/$name-" -print_final_stats=1 "build-fuzz/found/$name" \
    "tests/fuzz/corpus/$name" >"$log" 2>&1 || {
    echo "$name FAILED: $log"
    grep -m 3 'does not hold\|ERROR:\|runtime error' "$log" || tail -20 "$log"
    exit 1
}
echo "$name" >>"$FUZZ_DONE"
echo "$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") executions, $(sed -n \
    's/.*DONE *\(cov: [0-9]*\).*/\1/p' "$log")"
