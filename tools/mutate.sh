#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The mutation check: each tests/mutations/ROW.patch takes one sync or one ordering step out of a
# copy of the tree; one of what it names must turn red: `tests:`, programs, or `scripts:`, of
# tests/e2e. `tools/mutate.sh ROW...` runs the named rows; without names those that were not red
# before for the same tree. What a row names must be green without its patch, or red means nothing.
# A row that no test catches fails the check: a test is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
: "${MUTATE_SECONDS:=300}" # what hangs is red too, when without the patch it takes an eighth at most

copy=build/mutate
source=$copy/source
mkdir -p "$source" "$copy/logs"
tree=$(git ls-files -z -- '*.c' '*.h' '*.txt' '*.sh' tests/mutations | xargs -0 cat | sha256sum | cut -c1-16)
red_file=$copy/red.$tree green_file=$copy/green.$tree # NAME SECONDS
touch "$red_file" "$green_file"
rm -rf "${source:?}"/*
git ls-files -z | tar --null -cf - -T - | tar -xpf - -C "$source" # times stay: what is the same is not built again
# But what an earlier run mutated was built from other bytes, later than the times that these have.
sed -n 's|^+++ b/||p' tests/mutations/*.patch | sort -u | (cd "$source" && xargs touch)
launcher=()
! command -v ccache >/dev/null || launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
cmake -S "$source" -B "$copy/build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo "${launcher[@]}" >"$copy/logs/cmake" 2>&1

field() { sed -n "s/^$1: //p" "$2" | head -1; }

# What a row names: programs as they are called, scripts as e2e/NAME.
named() {
    field tests "$1" | tr ' ' '\n'
    field scripts "$1" | tr ' ' '\n' | sed '/./s|^|e2e/|'
}

build() { # LOG NAME...
    local log=$1 name targets=()
    shift
    for name in "$@"; do
        case $name in
        e2e/*) targets+=(farshore oracle claim faulty_io mount_main) ;;
        *) targets+=("test.$name") ;;
        esac
    done
    ninja -C "$copy/build" "${targets[@]}" >"$log" 2>&1
}

run() { # LOG NAME: its status; 124: it hangs
    local command=("$PWD/$copy/build/tests/test.$2")
    case $2 in
    e2e/*) command=(bash "$PWD/$source/tests/${2}_test.sh" "$PWD/$source" "$PWD/$copy/build/farshore") ;;
    esac
    local status=0 tmp
    tmp=$(mktemp -d /tmp/mutate.XXXXXX)
    TMPDIR=$tmp timeout -k 10 "$MUTATE_SECONDS" "${command[@]}" >"$1" 2>&1 || status=$?
    # What hangs or crashes leaves its mounts, and with each the processes that serve it.
    findmnt -rno TARGET | { grep "^$tmp/" || true; } | tac | xargs -r -n1 umount -f -l
    rm -rf --one-file-system "$tmp"
    return $status
}

# Once for each: green on the tree as it is, and how many seconds that takes. Else $by says it.
green() {
    local name=$1 log=$copy/logs/green.${1//\//.} begun=$SECONDS
    ! grep -q "^$name " "$green_file" || return 0
    by="$name is not green without the patch: $log"
    build "$log" "$name" && run "$log" "$name" || return 1
    echo "$name $((SECONDS - begun))" >>"$green_file"
}

quick() { [ $(($(sed -n "s|^$1 ||p" "$green_file") * 8)) -le "$MUTATE_SECONDS" ]; }

# 0: something turned red, and $by says what.
try_row() {
    local patch=$1 row name names=() status
    row=$(basename "$patch" .patch)
    mapfile -t names < <(named "$patch" | sed '/./!d')
    for name in "${names[@]}"; do green "$name" || return; done
    by="the patch does not apply"
    patch -s -f -p1 -d "$source" --dry-run <"$patch" >/dev/null && patch -s -p1 -d "$source" <"$patch" || return
    local result=1
    by="it stays green: ${names[*]}"
    if ! build "$copy/logs/$row.build" "${names[@]}"; then
        by="does not build: $copy/logs/$row.build"
        names=()
    fi
    for name in "${names[@]}"; do
        status=0
        run "$copy/logs/$row.${name//\//.}" "$name" || status=$?
        [ $status -ne 0 ] || continue
        if [ $status -eq 124 ] && ! quick "$name"; then
            by="$name takes too long to tell a hang"
            continue
        fi
        by=$name
        result=0
        break
    done
    patch -s -R -p1 -d "$source" <"$patch"
    return $result
}

rows=("$@")
[ ${#rows[@]} -gt 0 ] || for patch in tests/mutations/*.patch; do rows+=("$(basename "$patch" .patch)"); done
red=0 findings=()
for row in "${rows[@]}"; do
    if [ $# -eq 0 ] && grep -qx "$row" "$red_file"; then
        red=$((red + 1))
        echo "$row: red before"
        continue
    fi
    if try_row "tests/mutations/$row.patch"; then
        echo "$row: red in $by"
        echo "$row" >>"$red_file"
        red=$((red + 1))
    else
        echo "$row: NOT CAUGHT ($by)"
        findings+=("$row")
    fi
done
echo "mutation check: $red of ${#rows[@]} red, $(((SECONDS + 59) / 60)) minutes"
[ ${#findings[@]} -eq 0 ] || { echo "findings: ${findings[*]}"; exit 1; }
