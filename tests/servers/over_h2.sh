#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# over_h2.sh COMMAND...: the command under with.sh azurite-h2, and every request of it was HTTP/2.
set -euo pipefail
"$@"
log=$FARSHORE_TEST_FOLDER/access.log
asked=$(grep -c 'farshore/' "$log")
over=$(grep 'farshore/' "$log" | grep -c ' HTTP/2"')
echo "$over of $asked requests over HTTP/2"
[ "$asked" -gt 0 ] && [ "$over" -eq "$asked" ]
