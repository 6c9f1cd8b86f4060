# SPDX-License-Identifier: MIT
# Azurite, Microsoft's emulator of Azure Blob Storage, from npm; sourced by with.sh. It is kept in
# build/servers, so that it is fetched once. azurite-h2 is Azurite behind nghttpx, which speaks
# HTTP/2 in its place.
# shellcheck shell=bash disable=SC2154
AZURITE_VERSION=3.35.0
AZURITE_FOLDER=$SERVERS/../../build/servers/azurite-$AZURITE_VERSION

# Appears whole under its name: an interrupted fetch is no installation.
azurite_install() {
    local fetched=$AZURITE_FOLDER.new
    [ ! -e "$AZURITE_FOLDER" ] || return 0
    command -v npm >/dev/null || skip "no npm to install Azurite with"
    mkdir -p "$(dirname "$AZURITE_FOLDER")"
    (
        flock 9 # another run may be at it: then it is there when we get the lock
        [ ! -e "$AZURITE_FOLDER" ] || exit 0
        rm -rf "$fetched"
        mkdir "$fetched"
        # From a folder without an entry of that name, which npm would take for the package.
        cd "$fetched" && npm install --silent --no-audit --no-fund --prefix "$PWD" \
            "azurite@$AZURITE_VERSION" >npm.log 2>&1 || { tail -20 npm.log >&2; exit 1; }
        mv "$fetched" "$AZURITE_FOLDER"
    ) 9>"$AZURITE_FOLDER.lock"
}

front_azurite() {
    AZURITE_ACCOUNTS="farcache:$azurite_key1;fartarget:$azurite_key2" daemon "$FOLDER/azurite.log" \
        node "$AZURITE_FOLDER/node_modules/azurite/dist/src/blob/main.js" --silent \
        --disableTelemetry --location "$FOLDER" --blobHost 127.0.0.1 --blobPort "$azurite_port" \
        "${azurite_tls[@]}"
    FRONT=$!
}

azurite_certificate() {
    openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
        -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
        -keyout "$FOLDER/key.pem" -out "$FOLDER/ca.pem" 2>/dev/null
}

# In front of Azurite, once that answers.
start_h2() {
    command -v nghttpx >/dev/null || skip "no nghttpx (nghttp2-proxy)"
    free_port
    daemon "$FOLDER/nghttpx.log" nghttpx --single-process --conf=/dev/null --no-ocsp \
        -f "127.0.0.1,$PORT" -b "127.0.0.1,$azurite_port" --errorlog-file="$FOLDER/nghttpx.log" \
        --accesslog-file="$FOLDER/access.log" "$FOLDER/key.pem" "$FOLDER/ca.pem"
    wait_for_answer "https://127.0.0.1:$PORT/" "$FOLDER/nghttpx.log"
}

start_azurite() {
    local own=http endpoint options=
    azurite_install
    free_port
    azurite_port=$PORT azurite_tls=()
    if [ "$SERVER" != azurite ]; then
        azurite_certificate
        options="&ca=$FOLDER/ca.pem"
    fi
    if [ "$SERVER" = azurite-https ]; then
        own=https azurite_tls=(--cert "$FOLDER/ca.pem" --key "$FOLDER/key.pem")
    fi
    # Two accounts, so that nothing of one works for the other.
    azurite_key1=$(openssl rand -base64 64 | tr -d '\n')
    azurite_key2=$(openssl rand -base64 64 | tr -d '\n')
    front_azurite
    wait_for_answer "$own://127.0.0.1:$azurite_port/" "$FOLDER/azurite.log"
    endpoint=$own://127.0.0.1:$azurite_port
    if [ "$SERVER" = azurite-h2 ]; then
        start_h2
        endpoint=https://127.0.0.1:$PORT
    fi
    credential azure.farcache "AZURE_STORAGE_KEY=$azurite_key1"
    credential azure.fartarget "AZURE_STORAGE_KEY=$azurite_key2"
    export FARSHORE_TEST_ENDPOINT=$endpoint
    export FARSHORE_TEST_CACHE="azure://farcache/cache/some/prefix?endpoint=$endpoint/farcache$options"
    export FARSHORE_TEST_TARGET="azure://fartarget/target?endpoint=$endpoint/fartarget$options"
}
