#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# With the default settings and nobody asking, at least three points appear in 20 s; an idle disk
# makes none.
. "$(dirname "$0")/lib.sh" "$@"

enable_vm web 16M os
mount_vm web
join_vm web
"$ORACLE" write "$TMP/log" 20 2 3 "$TMP/src/os.img"
A unmount "$TMP/src" --wait
B process web --once
count=$(point_ids web | wc -l)
[ "$count" -ge 3 ] || fail "only $count points in 20 s"
mkdir -p "$TMP/rec"
B recover "$TMP/rec"
check_points web "$TMP/rec" "$TMP/log" os
umount "$TMP/rec"
say "idle: no new point"
mount_vm web
sleep 12
A unmount "$TMP/src"
B process web --once
[ "$(point_ids web | wc -l)" -eq "$count" ] || fail "an idle disk made points"
say "passed: $count points"
