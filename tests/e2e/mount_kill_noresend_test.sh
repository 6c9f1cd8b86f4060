#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The kill test as on a kernel that cannot send requests again (before 6.9): the next worker finds
# what was in flight in the kept memory.
FARSHORE_RESEND=off exec bash "$(dirname "$0")/mount_kill_test.sh" "$@"
