#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The mutation check: each tests/mutations/ROW.patch takes one sync or one ordering step out of a
# copy of the tree; one of the tests that it names must turn red. `tools/mutate.sh ROW...` runs the
# named rows; without names those that were not red before for the same tree. A row that no test
# catches fails the check: a test is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${MUTATE_SECONDS:=120}" # a test that hangs is red too

copy=build/mutate
source=$copy/source
done_file=$copy/red.$(git ls-files -z -- '*.c' '*.h' '*.txt' tests/mutations | xargs -0 cat | sha256sum | cut -c1-16)
mkdir -p "$source" "$copy/logs"
rm -rf "${source:?}"/*
git ls-files -z | tar --null -cf - -T - | tar -xpf - -C "$source" # times stay: what is the same is not built again
cmake -S "$source" -B "$copy/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo >"$copy/logs/cmake" 2>&1

field() { sed -n "s/^$1: //p" "$2" | head -1; }

# 0: a test turned red, and $by says which.
try_row() {
    local patch=$1 row test targets=()
    row=$(basename "$patch" .patch)
    for test in $(field tests "$patch"); do targets+=("test.$test"); done
    patch -s -p1 -d "$source" <"$patch" || { by="the patch does not apply"; return 1; }
    local result=1
    by="no test"
    if ! ninja -C "$copy/build" "${targets[@]}" >"$copy/logs/$row.build" 2>&1; then
        by="does not build: $copy/logs/$row.build"
    else
        for test in "${targets[@]}"; do
            if ! timeout "$MUTATE_SECONDS" "$copy/build/tests/$test" >"$copy/logs/$row.$test" 2>&1; then
                by=${test#test.}
                result=0
                break
            fi
        done
    fi
    patch -s -R -p1 -d "$source" <"$patch"
    return $result
}

rows=("$@")
[ ${#rows[@]} -gt 0 ] || for patch in tests/mutations/*.patch; do rows+=("$(basename "$patch" .patch)"); done
red=0 findings=()
for row in "${rows[@]}"; do
    if [ $# -eq 0 ] && grep -qx "$row" "$done_file" 2>/dev/null; then
        red=$((red + 1))
        echo "$row: red before"
        continue
    fi
    if try_row "tests/mutations/$row.patch"; then
        echo "$row: red in $by"
        echo "$row" >>"$done_file"
        red=$((red + 1))
    else
        echo "$row: NOT CAUGHT ($by)"
        findings+=("$row")
    fi
done
echo "mutation check: $red of ${#rows[@]} red"
[ ${#findings[@]} -eq 0 ] || { echo "findings: ${findings[*]}"; exit 1; }
