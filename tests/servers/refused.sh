#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What enable refuses, with words on what to change, and nothing is enabled then: Swift, which has
# no conditional writes; at radosgw, a region that it does not know; the project's own that replaces
# what is there though told not to.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"

mkdir -p "$TMP/disks"
truncate -s 16M "$TMP/disks/os.raw"
refuse() { # WORDS OPTIONS-OF-URLS
    expect_exit 2 "$1" A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE$2" --target "$TARGET$2"
    cat "$TMP/err"
    expect_exit 3 'no VM' A status web
}

case $FARSHORE_TEST_SERVER in
swift)
    refuse 'conditional writes' ''
    say "a client that is content with less can use it"
    [ "$(put_raw "$ADMIN" cache plain hello)" = 200 ] || fail "$(cat "$TMP/answer")"
    [ "$(ask "$ADMIN" GET cache plain)" = 200 ] || fail "$(cat "$TMP/answer")"
    [ "$(cat "$TMP/answer")" = hello ] || fail "$(cat "$TMP/answer")"
    ;;
radosgw)
    refuse 'give the one it is in as region=' '&region=nowhere-1'
    say "the same, with the right region"
    A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE&region=us-east-1" --target "$TARGET" >/dev/null
    ;;
faulty)
    refuse 'replaced' ''
    [ "$(names_in cache web | grep -vc /check-)" = 0 ] || fail "something was begun: $(names_in cache web)"
    ;;
*) fail "nothing is to be refused at $FARSHORE_TEST_SERVER" ;;
esac
say "passed"
