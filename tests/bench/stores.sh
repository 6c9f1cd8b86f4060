#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Object transfers against real servers, farshore's own and curl's in turn: one stream and eight
# parallel ones of 8 MiB objects, up and down, as medians and ratios (bound 0.9). Then the project's
# own HTTP store without and with 80 ms before each answer: one part in flight and eight (with the
# delay 6 times as much, or as much as without it).
#   stores.sh SOURCE_FOLDER BINARY [ROUNDS]
set -euo pipefail
WITH=$1/tests/servers/with.sh
BENCH=$(dirname "$2")/tests/store_bench
ROUNDS=${3:-5}
BYTES=$((8 << 20))
COUNT=16

median() { sort -n | awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'; }

if [ -z "${FARSHORE_TEST_SERVER:-}" ]; then
    for server in azurite radosgw; do
        RADOSGW_BYTES=$((8 << 30)) bash "$WITH" "$server" bash "$0" "$@"
    done
    for delay in 0 80; do
        FAULTY_OPTIONS="--unchecked --delay $delay" FAULTY_STORE=$(dirname "$2")/tests/faulty_store \
            DELAY=$delay bash "$WITH" faulty bash "$0" "$@"
    done
    exit
fi

TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
CACHE=$FARSHORE_TEST_CACHE TARGET=$FARSHORE_TEST_TARGET
. "$1/tests/servers/client.sh"
first=0

ours() { "$BENCH" "$1" "$CACHE" "$first" "$COUNT" "$BYTES" "$2"; } # put|get STREAMS

if [ "$FARSHORE_TEST_SERVER" = faulty ]; then
    head -c 512M /dev/urandom >"$TMP/disk"
    COUNT=32
    for _ in $(seq "$ROUNDS"); do
        for streams in 1 8; do
            first=$((first + COUNT))
            BYTES=$((1 << 20)) ours put "$streams" >>"$TMP/small.$streams"
            first=$((first + COUNT))
            ours put "$streams" >>"$TMP/part.$streams"
            rm -rf "$TMP/disk.state"
            "$(dirname "$BENCH")/ship_bench" "$CACHE" "$TMP/disk" "$streams" >>"$TMP/ship.$streams"
        done
    done
    for what in small part ship; do
        awk -v what="$what" -v delay="$DELAY" -v one="$(median <"$TMP/$what.1")" -v eight="$(median <"$TMP/$what.8")" 'BEGIN {
            name["small"] = "objects of 1 MiB"; name["part"] = "objects of 8 MiB"; name["ship"] = "initial replication"
            printf "%2d ms per request, %s: one in flight %.1f MiB/s, eight %.1f, ratio %.2f\n",
                   delay, name[what], one, eight, eight / one}'
    done
    exit
fi

store_place cache
head -c "$BYTES" /dev/urandom >"$TMP/body"
# What curl is told besides the URL: the same checksums, computed beforehand.
case $FARSHORE_TEST_SERVER in
azurite*)
    sas=$(azure_sas cache racwdl 3600)
    put_options='header = "x-ms-version: 2021-12-02"
header = "x-ms-blob-type: BlockBlob"
header = "expect:"
'"header = \"content-md5: $(openssl md5 -binary "$TMP/body" | base64)\""
    get_options='header = "x-ms-version: 2021-12-02"'
    ;;
*)
    sas=
    sign="aws-sigv4 = \"aws:amz:us-east-1:s3\"
user = \"$(secret_of "$ADMIN/$name" AWS_ACCESS_KEY_ID):$(secret_of "$ADMIN/$name" AWS_SECRET_ACCESS_KEY)\""
    put_options="$sign
header = \"x-amz-content-sha256: $(sha256sum "$TMP/body" | cut -d' ' -f1)\""
    get_options="$sign
header = \"x-amz-content-sha256: UNSIGNED-PAYLOAD\""
    ;;
esac

# As many curls as streams, each for its share, so that it keeps its connection as farshore does. It
# wants its options again for each transfer. (One curl --parallel was seen to hang in uploads.)
curls() { # put|get STREAMS
    local n begun stream options=$get_options
    [ "$1" = get ] || options="upload-file = \"$TMP/body\"
$put_options"
    rm -f "$TMP"/curlrc.*
    for n in $(seq "$first" $((first + COUNT - 1))); do
        stream=$TMP/curlrc.$((n % $2))
        [ ! -e "$stream" ] || echo next >>"$stream"
        printf 'url = "%s/%sbench/%s%s"\nsilent\nfail\noutput = "/dev/null"\n%s\n' \
            "$container" "$prefix" "$n" "${sas:+?$sas}" "$options" >>"$stream"
    done
    begun=$(date +%s%N)
    printf '%s\0' "$TMP"/curlrc.* | xargs -0 -n 1 -P "$2" curl --no-progress-meter --max-time 60 -K ||
        fail "curl $1"
    awk -v ns=$(($(date +%s%N) - begun)) -v bytes=$((COUNT * BYTES)) \
        'BEGIN {print bytes / 1048576 / (ns / 1e9)}'
}

ours put 1 >/dev/null # makes the container, warms the server
for streams in 1 8; do
    for _ in $(seq "$ROUNDS"); do
        for who in ours curls; do
            first=$((first + COUNT))
            $who put "$streams" >>"$TMP/put.$streams.$who"
            $who get "$streams" >>"$TMP/get.$streams.$who"
        done
    done
    for way in put get; do
        awk -v what="$FARSHORE_TEST_SERVER $way, $streams at once" -v o="$(median <"$TMP/$way.$streams.ours")" \
            -v c="$(median <"$TMP/$way.$streams.curls")" 'BEGIN {
            printf "%-24s farshore %6.1f MiB/s, curl %6.1f, ratio %.2f (bound 0.90)\n", what, o, c, o / c}'
    done
done
