#!/bin/bash
# SPDX-License-Identifier: MIT
# Every relative link in a *.md file leads to a file that is there.
set -u
cd "$1" || exit 2
failed=0
while read -r page; do
    while read -r link; do
        [ -z "$link" ] && continue
        target=${link%%#*}
        case $target in
        '' | http://* | https://* | mailto:*) continue ;;
        esac
        if [ ! -e "$(dirname "$page")/$target" ]; then
            echo "$page: $link leads nowhere"
            failed=1
        fi
    done < <(grep -oE '\]\([^) ]+\)' "$page" | sed 's/^](//; s/)$//')
done < <(find . -name '*.md' -not -path './build*' -not -path './.git/*')
exit $failed
