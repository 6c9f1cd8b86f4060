#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A store without conditional writes works for a plain client, and is refused by enable with words
# on what it lacks; nothing is enabled then.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"

mkdir -p "$TMP/disks"
truncate -s 16M "$TMP/disks/os.raw"
expect_exit 2 'conditional writes' A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE" --target "$TARGET"
cat "$TMP/err"
say "for a client that is content with less it works"
[ "$(put_raw "$ADMIN" cache plain hello)" = 200 ] || fail "$(cat "$TMP/answer")"
[ "$(ask "$ADMIN" GET cache plain)" = 200 ] && [ "$(cat "$TMP/answer")" = hello ] || fail "$(cat "$TMP/answer")"
[ "$(put_raw "$ADMIN" cache plain hullo)" = 200 ] || fail "$(cat "$TMP/answer")"
expect_exit 3 'no VM' A status web
say "passed"
