#!/bin/bash
# SPDX-License-Identifier: MIT
# docs/ASR.md is true to the program and the tests: each verb that it names is one, each option of a
# verb is in its help, each test is a file that the test command runs, and no verb of failover is
# left out.
set -u
cd "$1" || exit 2
farshore=$2
page=docs/ASR.md
failed=0

complain() {
    echo "$page: $*"
    failed=1
}

verbs=$("$farshore" --help | sed -n 's/^  \([a-z-]*\)  *[A-Z].*/\1/p')
named=$(grep -oE '`farshore [a-z][a-z-]*' "$page" | cut -d' ' -f2 | sort -u)
for verb in $named; do
    grep -qx -- "$verb" <<<"$verbs" || complain "farshore has no verb $verb"
done
for verb in enable join host test-failover cleanup failover change-point commit cancel reprotect \
    revert plan jobs job hook; do
    grep -qx -- "$verb" <<<"$named" || complain "$verb is missing"
done
while read -r _ verb rest; do
    for option in $(grep -oE -- '--[a-z][a-z-]*' <<<"$rest"); do
        "$farshore" "$verb" --help 2>/dev/null | grep -qE "^  $option( |\$)" ||
            complain "$verb has no option $option"
    done
done < <(grep -oE '`farshore [^`]*`' "$page" | tr -d '`')

# What is registered, by the scheme of tests/CMakeLists.txt: a file NAME_test.* by its own name, a
# script or program of servers/ with each server that it is run over, where that server can be had.
tests=$(ctest --test-dir "$(dirname "$farshore")" -N 2>/dev/null |
    sed -n 's/^ *Test *#[0-9]*: //p')
[ -n "$tests" ] || complain "no test is registered beside $farshore"
for path in $(grep -oE '`tests/[^`]*`' "$page" | tr -d '`' | sort -u); do
    if [ ! -f "$path" ]; then
        complain "$path is not there"
        continue
    fi
    name=${path#tests/}
    case $name in
    servers/*_main.c) name=server.$(basename "$name" _main.c). ;;
    servers/*.sh) name=server.$(basename "$name" .sh). ;;
    *_test.c | *_test.sh) name=${name%_test.*} name=${name//\//.} ;;
    esac
    case $name in
    asr) name=style.asr ;;
    esac
    if [ "${name%.}" != "$name" ]; then
        grep -qF -- "$name" <<<"$tests" || grep -qF -- "${path#tests/}" tests/CMakeLists.txt ||
            grep -qF -- "$path" tools/long.sh ||
            complain "$path is not run"
    else
        grep -qxF -- "$name" <<<"$tests" || complain "$path is not run"
    fi
done

# Each row says what shows it, or that nothing does.
while IFS= read -r row; do
    case $row in
    *'`tests/'*' |' | *'| - |' | '|---'* | *'| test |') ;;
    *) complain "a row names no test: $row" ;;
    esac
done < <(grep '^|' "$page")
exit $failed
