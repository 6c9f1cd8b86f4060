#!/bin/bash
# SPDX-License-Identifier: MIT
# The layers: common <- backend <- fs <- tools. No include points up, libfuse is known in fs/mount
# only, nothing but tools prints or ends the process, and every file says its licence.
set -u
cd "$1" || exit 2
failed=0

complain() { # WHAT, then lines on standard input
    local lines
    lines=$(cat)
    [ -z "$lines" ] && return
    printf '%s:\n%s\n' "$1" "$lines"
    failed=1
}

grep -rnE '#include "(backend|fs|tools|tests)/' common | complain "common includes what lies above"
grep -rnE '#include "(fs|tools|tests)/' backend | complain "backend includes what lies above"
grep -rnE '#include "(tools|tests)/' fs | complain "fs includes what lies above"
grep -rnE '#include "tests/' tools | complain "tools includes tests"
grep -rnE '#include "fs/mount/' fs/disk fs/view | complain "the disk engine includes the mount"
grep -rnE '#include [<"]fuse' common backend fs/disk fs/view tools | complain "libfuse outside fs/mount"
grep -rnE '\b(printf|puts|putchar|perror|fputs|fprintf|exit|abort)\(' common backend fs |
    grep -vE "^common/(log|digest)\.c:" | complain "printing or ending outside tools"
grep -rnE '\b(printf|puts|putchar|perror)\(' fs/mount | complain "printing in fs/mount"
find common backend fs tools tests -name '*.[ch]' -o -name '*.sh' -not -path '*/build*' |
    while read -r file; do
        head -2 "$file" | grep -q 'SPDX-License-Identifier: MIT' || echo "$file"
    done | complain "no SPDX line on top"
exit $failed
