#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# How long the history of a VM that was cut every 5 s for days takes to open, 30 ms away: from its
# records, and from packs of them.
#   history.sh SOURCE_FOLDER BINARY
set -euo pipefail
BENCH=$(dirname "$2")/tests/history_bench
for days in 1 7; do
    "$BENCH" $days 30 records
    "$BENCH" $days 30 packs
done
"$BENCH" 30 30 packs
