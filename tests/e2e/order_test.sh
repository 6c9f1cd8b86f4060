#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Which step comes before which: one folder after the other is made read-only, so that a verb stops
# at the step that writes there. What comes after that step must not have been done; then the same
# command goes on.
. "$(dirname "$0")/lib.sh" "$@"
case $TARGET in file://*) ;; *) skip "the target's folders are made read-only" ;; esac
chmod 711 "$TMP"

# While FOLDER is read-only the command fails.
stopped_at() { # FOLDER COMMAND...
    local folder=$1
    shift
    mkdir -p "$folder"
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
    ! "$@" >"$TMP/out" 2>"$TMP/err" || fail "it went past $folder: $*"
    umount "$folder"
    grep -q 'Read-only' "$TMP/err" || { cat "$TMP/err"; fail "it did not stop at $folder: $*"; }
}
# It stops as well where a sync fails, and names that file or folder: it is durable before what follows.
unsynced_at() { # CALL PATH NAME COMMAND...
    spoil "$1" eio 1 -1 "$2"
    ! faulty "${@:4}" >"$TMP/out" 2>"$TMP/err" || fail "it does without a sync of $2: ${*:4}"
    grep -q "$3: .*Input/output" "$TMP/err" || { cat "$TMP/err"; fail "it did not fail at $2: ${*:4}"; }
}
role() { jq -r .role "$TMP/$1/config/vms/web.json"; }
records() { find "$TMP/target/web/history" -type f | wc -l; }
local_files() { find "$TMP/b/state/disks" -name '*.img' | wc -l; }
try_enable() {
    A enable web --disk "os=$TMP/disks/os.raw" --disk "data=$TMP/disks/data.raw" \
        --cache "$CACHE" --target "$TARGET"
}

for host in a b; do
    mkdir -p "$TMP/$host/config"
    printf '{"name": "%s", "libvirt": "none:///"}\n' "$host" >"$TMP/$host/config/host.json"
done
mkdir -p "$TMP/disks"
truncate -s 8M "$TMP/disks/os.raw" "$TMP/disks/data.raw"

say "enable: the key, then the settings, then the vault"
stopped_at "$TMP/a/config/keys" try_enable
unsynced_at fsync "$TMP/a/config/keys" keys try_enable
[ ! -e "$TMP/a/config/vms/web.json" ] || fail "settings without a key"
stopped_at "$TMP/a/config/vms" try_enable
[ ! -e "$TMP/target/web/vault" ] || fail "a vault that no settings name"
stopped_at "$TMP/target" try_enable
try_enable >/dev/null

say "a disk grows before its settings say so, and is forgotten after they do"
stopped_at "$TMP/disks" A disk web grow os 12M
[ "$(jq '.disks[0].size_bytes' "$TMP/a/config/vms/web.json")" -eq $((8 << 20)) ] ||
    fail "the settings have a size that the disk has not"
for _ in 1 2; do unsynced_at fsync "$TMP/disks/os.raw" os.raw A disk web grow os 12M; done
[ "$(jq '.disks[0].size_bytes' "$TMP/a/config/vms/web.json")" -eq $((8 << 20)) ] ||
    fail "the settings have a size that may not last"
A disk web grow os 12M >/dev/null
mount_vm web
A unmount "$TMP/src" >/dev/null
stopped_at "$TMP/a/config/vms" A disk web remove data
[ -e "$TMP/a/state/vms/web/data.marks" ] || fail "marks went before the settings"

say "failover: the document, then the hold, then the claim, the files, the settings"
mount_vm web
join_vm web
B set web start=true stop=true >/dev/null
start_processor web "$TMP/process.log"
A point web --wait=target >/dev/null
A unmount "$TMP/src" >/dev/null
kill "$processor"
wait "$processor" || true
before=$(records)
stopped_at "$TMP/target/web/failover" B failover web
[ "$(records)" -eq "$before" ] || fail "claimed before the document says so"
stopped_at "$TMP/target/web/pins" B failover web
[ "$(records)" -eq "$before" ] || fail "claimed before the point was held"
stopped_at "$TMP/b/state/disks" B failover web
[ "$(role b)" = target ] || fail "settings name files that are not there"
unsynced_at fdatasync "$TMP/b/state/disks" '[.]img' B failover web
[ "$(role b)" = target ] || fail "settings name files that may not last"
stopped_at "$TMP/b/config/vms" B failover web
[ ! -d "$TMP/b/state/mounts/web" ] || ! mountpoint -q "$TMP/b/state/mounts/web" || fail "mounted"
B failover web >/dev/null
[ "$(role b)" = source ] || fail "failed over, and no source"

say "cancel: the document, then the files, and the settings last"
stopped_at "$TMP/target/web/failover" B cancel web
[ "$(role b)" = source ] && [ "$(local_files)" -eq 2 ] || fail "undone before the document says so"
stopped_at "$TMP/b/state/disks" B cancel web
[ "$(role b)" = source ] || fail "nobody knows any more whose the files are"
B cancel web >/dev/null
[ "$(role b)" = target ] && [ "$(local_files)" -eq 0 ] || fail "cancelled, and something is left"
