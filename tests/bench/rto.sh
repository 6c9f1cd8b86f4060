#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The time that a drill takes, for a disk of 1 GiB and a sparse one of 1 TiB with the same data:
# from the command to libvirt's event that the machine runs (as the verb reports it, from the
# posting of its job) and to the first byte of its console. Medians of rounds in turn.
#   rto.sh SOURCE_FOLDER BINARY [ROUNDS]
if [ -z "${FARSHORE_VIRT_A:-}" ]; then
    exec bash "$1/tests/servers/libvirt.sh" "a b" bash "$0" "$@"
fi
ROUNDS=${3:-5}
. "$(dirname "$0")/../servers/two_hosts.sh" "$1" "$2"
now_ms() { echo $((${EPOCHREALTIME/./} / 1000)); }
median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

agent a
agent b
for size in 1G 1T; do
    vm=disk-${size,,}
    truncate -s "$size" "$V/$vm.img"
    # 64 MiB of data, a piece at every sixteenth of the disk.
    step=$(($(stat -c %s "$V/$vm.img") / 16 / 1048576))
    for i in $(seq 0 15); do
        head -c 4M /dev/urandom | dd of="$V/$vm.img" bs=1M seek=$((i * step + 1)) conv=notrunc status=none
    done
    define a "$vm" 'log=raw pause=200' "$V/$vm.img"
    A enable "$vm" --domain "$vm" --cache "$CACHE" --target "$TARGET" --target-host b >/dev/null
    B join "$TARGET" --key "$TMP/a/config/keys/$vm.key" >/dev/null
    A point "$vm" --wait=target --timeout 600 >/dev/null
done
round() { # VM: ms to resumed, by the command's start; ms to the first byte
    local log=$V/state-b/tests/$1/1/$1.log start first resumed
    start=$(now_ms)
    B test-failover "$1" --json >"$TMP/test.json" 2>/dev/null
    until [ -s "$log" ]; do sleep 0.005; done
    first=$(now_ms)
    resumed=$(B job "$(jq -r .job "$TMP/test.json")" --json | jq .result.values.rto_ms)
    echo "$resumed $((first - start))"
    B cleanup "$1" >/dev/null 2>&1
}
for _ in $(seq "$ROUNDS"); do
    for vm in disk-1g disk-1t; do round $vm >>"$TMP/$vm.out"; done
done
column() { cut -d' ' -f"$2" "$TMP/$1.out" | median; }
echo "command to resumed: 1 GiB $(column disk-1g 1) ms, 1 TiB $(column disk-1t 1) ms"
echo "command to first serial byte: 1 GiB $(column disk-1g 2) ms, 1 TiB $(column disk-1t 2) ms"
