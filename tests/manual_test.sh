#!/bin/bash
# SPDX-License-Identifier: MIT
# Every verb that --help lists has a manual page, and no page is without its verb; page and --help
# name the same options; mandoc finds no fault.
set -u
cd "$1" || exit 2
farshore=$2
failed=0

complain() {
    echo "$*"
    failed=1
}

verbs=$("$farshore" --help | sed -n 's/^  \([a-z-]*\)  *[A-Z].*/\1/p')
[ -n "$verbs" ] || complain "--help lists no verb"
for verb in $verbs; do
    page=man/farshore-$verb.1
    if [ ! -f "$page" ]; then
        complain "$verb has no page $page"
        continue
    fi
    shown=$("$farshore" "$verb" --help | sed -n 's/^  --\([a-z-]*\).*/\1/p' | sort)
    written=$(sed -n 's/^\.It Fl -\([a-z-]*\).*/\1/p' "$page" | sort)
    [ "$shown" = "$written" ] ||
        complain "$verb: --help has" $shown "but $page has" $written
    grep -q "^\.It Cm $verb\$" man/farshore.1 || complain "farshore.1 does not list $verb"
done
for page in man/farshore-*.1; do
    verb=${page#man/farshore-}
    grep -qx "${verb%.1}" <<<"$verbs" || complain "$page is about no verb"
done
if command -v mandoc >/dev/null; then
    lint=$(mandoc -T lint -W warning man/*.1) || complain "$lint"
else
    echo "mandoc is not installed: pages are not linted"
fi
exit $failed
