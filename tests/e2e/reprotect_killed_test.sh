#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A seed that breaks off and whose process dies before it can say so: it is not taken for a whole one.
SEED_KILLED=yes exec bash "$(dirname "$0")/reprotect_test.sh" "$@"
