#!/bin/bash
# SPDX-License-Identifier: MIT
# docs/DURABILITY.md names no test, long row or mutation row that is not there, and every mutation
# row; every row names tests that are there, and its patch still applies. In docs/RESULTS.md each of
# the 31 cases of the fault suite names tests that are there.
set -u
cd "$1" || exit 2
page=docs/DURABILITY.md
failed=0

complain() {
    echo "$*"
    failed=1
}

tests=$(ctest --test-dir "$(dirname "$2")" -N | sed -n 's/^ *Test *#[0-9]*: //p')
[ -n "$tests" ] || complain "ctest lists no test"
is_test() { grep -qxF "$1" <<<"$tests"; }

# The words in backquotes of a table's last column.
named() { sed -n "/^## $1/,/^## /s/^|.*|\(.*\)|\$/\1/p" "$page" | grep -o '`[^`]*`' | tr -d '`'; }

[ -n "$(named Events)" ] && [ -n "$(named Steps)" ] || complain "$page has no rows"
while read -r name; do
    case $name in
    "tools/long.sh "*) grep -q "^row_${name#* }()" tools/long.sh || complain "no such row: $name" ;;
    *) is_test "$name" || complain "no such test: $name" ;;
    esac
done < <(named Events)

diff <(named Steps | sort) <(basename -s .patch tests/mutations/*.patch | sort) ||
    complain "$page and tests/mutations name other rows"
for patch in tests/mutations/*.patch; do
    caught=$(sed -n 's/^tests: //p' "$patch")
    for name in $(sed -n 's/^scripts: //p' "$patch"); do caught+=" e2e.$name"; done
    [ -n "$caught" ] || complain "$patch names no test"
    for name in $caught; do is_test "$name" || complain "$patch: no such test: $name"; done
    patch -s -p1 --dry-run -f <"$patch" >/dev/null || complain "$patch does not apply"
done

cases=$(sed -n '/^## The fault suite/,/^\*\*/p' docs/RESULTS.md | grep '^| [0-9]')
for number in $(seq 31); do
    shown=$(grep -E "^\| ([0-9]+, )*$number[ ,]" <<<"$cases" | cut -d'|' -f3 | grep -oE '`[a-z0-9]+\.[a-z0-9_.{},*]+`' | tr -d '`')
    [ -n "$shown" ] || complain "docs/RESULTS.md: case $number names no test"
    for name in $shown; do
        name=${name//./[.]} # of braces and stars, as a shell has them, a regular expression
        name=${name//\{/(} name=${name//\}/)} name=${name//,/|} name=${name//\*/.*}
        grep -qxE "$name" <<<"$tests" || complain "docs/RESULTS.md: case $number: no such test: $name"
    done
done
exit $failed
