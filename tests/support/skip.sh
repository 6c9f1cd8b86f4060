# SPDX-License-Identifier: MIT
# How a test says that it cannot run here. In the test command and the long set (FARSHORE_TEST_REQUIRE)
# everything can: there that is a failure, so that nothing is skipped unseen. Source it.
# shellcheck shell=bash
skip() { # REASON
    [ -z "${FARSHORE_TEST_REQUIRE:-}" ] || { echo "FAILED: this must run here: $*" >&2; exit 1; }
    echo "SKIP: $*"
    exit 77
}
need() { # COMMAND...
    local command
    for command in "$@"; do command -v "$command" >/dev/null || skip "no $command here"; done
}
