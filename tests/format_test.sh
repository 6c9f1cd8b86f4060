#!/bin/bash
# SPDX-License-Identifier: MIT
# Every C file is as .clang-format says, no line of a script or page ends in a space, and no script that
# has pipefail pipes into `grep -q`, which kills who still writes (says, in tests/e2e/lib.sh, does not).
set -u
cd "$1" || exit 2
. tests/support/skip.sh
need clang-format
failed=0
find common backend fs tools tests \( -name '*.c' -o -name '*.h' \) -print0 |
    xargs -0 clang-format --dry-run --Werror || failed=1
if grep -rnE '[[:space:]]+$' --include='*.sh' --include='*.md' --include='*.c' --include='*.h' \
    --include='CMakeLists.txt' common backend fs tools tests docs README.md CMakeLists.txt; then
    echo "lines that end in space"
    failed=1
fi
if grep -rnE '[^|]\| *grep -[a-zA-Z]*q' --include='*.sh' tests/e2e tests/servers tests/failn tests/bench tools; then
    echo "pipelines that end by chance"
    failed=1
fi
exit $failed
