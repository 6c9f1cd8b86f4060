#!/bin/bash
# SPDX-License-Identifier: MIT
# Every limit of docs/LIMITS.md is in the header that it names, with the value that it says.
set -u
cd "$1" || exit 2
failed=0

complain() {
    echo "$*"
    failed=1
}
number() { # "16 MiB", "256 Ki", "60000"
    local value=${1%% *}
    case $1 in
    *' GiB') echo $((value << 30)) ;;
    *' MiB' | *' Mi') echo $((value << 20)) ;;
    *' KiB' | *' Ki') echo $((value << 10)) ;;
    *) echo "$value" ;;
    esac
}

rows=0
while IFS='|' read -r _ _ name value header _; do
    name=$(tr -d ' `' <<<"$name")
    header=$(tr -d ' `' <<<"$header")
    value=$(sed 's/^ *//; s/ *$//' <<<"$value")
    rows=$((rows + 1))
    text=$(sed -n "s/^#define $name  *\([^/]*\).*/\1/p" "$header" 2>/dev/null)
    [ -n "$text" ] || { complain "$header does not define $name"; continue; }
    text=$(sed 's/\([0-9]\)u*l*\b/\1/g' <<<"$text")
    [[ $text =~ ^[0-9\ \(\)\<\*]+$ ]] || { complain "$name is no number in one line of $header: $text"; continue; }
    [ $((text)) -eq "$(number "$value")" ] || complain "$name is $text in $header, $value in docs/LIMITS.md"
done < <(grep -E '^\|.*\| `[A-Z_]+` \|' docs/LIMITS.md)
[ $rows -gt 30 ] || complain "docs/LIMITS.md has $rows rows"
exit $failed
