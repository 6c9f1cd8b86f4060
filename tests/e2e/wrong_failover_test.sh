#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Wrong use of the failover verbs gets one clear line and its own exit code.
. "$(dirname "$0")/lib.sh" "$@"
NOT_FOUND=3
name_hosts a b
enable_vm web 16M os >/dev/null
join_vm web >/dev/null
B set web start=true stop=true >/dev/null

for verb in test-failover failover cleanup commit cancel reprotect validate; do
    expect_exit $NOT_FOUND 'no VM nowhere here: give one of web' B $verb nowhere
    expect_exit 2 'too many words' B $verb web and more
    expect_exit 2 'see --help' B $verb web --pont x
done
expect_exit 2 'did you mean failover' B failovr web
expect_exit 2 'needs --point' B revert web
expect_exit 2 'something is missing' B change-point web
expect_exit 2 'no recovery point yet' B test-failover web
expect_exit 2 'web is none' B commit web
expect_exit 2 'web is none' B cancel web
expect_exit $NOT_FOUND 'has no drill' B cleanup web
mv "$TMP/b/config/keys/web.key" "$TMP/away.key"
expect_exit $NOT_FOUND 'copy it from another one' B failover web
mv "$TMP/away.key" "$TMP/b/config/keys/web.key"
mv "$TMP/target" "$TMP/away"
expect_exit $NOT_FOUND 'is not a store' B failover web
