# SPDX-License-Identifier: MIT
# Azurite, Microsoft's emulator of Azure Blob Storage, from npm; sourced by with.sh. It is kept in
# build/servers, so that it is fetched once.
# shellcheck shell=bash disable=SC2154
AZURITE_VERSION=3.35.0
AZURITE_FOLDER=$SERVERS/../../build/servers/azurite-$AZURITE_VERSION

azurite_install() {
    [ -e "$AZURITE_FOLDER/node_modules/azurite/dist/src/blob/main.js" ] && return
    command -v npm >/dev/null || skip "no npm to install Azurite with"
    mkdir -p "$AZURITE_FOLDER"
    (
        flock 9
        # From a folder without an entry of that name, which npm would take for the package.
        cd "$AZURITE_FOLDER" && npm install --silent --no-audit --no-fund --prefix "$PWD" \
            "azurite@$AZURITE_VERSION" >npm.log 2>&1 || { tail -20 npm.log >&2; exit 1; }
    ) 9>"$AZURITE_FOLDER/lock"
}

start_azurite() {
    local scheme=http port tls=() options=
    azurite_install
    port=$(free_port)
    if [ "$SERVER" = azurite-https ]; then
        scheme=https
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
            -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" \
            -keyout "$FOLDER/key.pem" -out "$FOLDER/ca.pem" 2>/dev/null
        tls=(--cert "$FOLDER/ca.pem" --key "$FOLDER/key.pem")
        options="&ca=$FOLDER/ca.pem"
    fi
    # Two accounts, so that nothing of one works for the other.
    local key1 key2
    key1=$(openssl rand -base64 64 | tr -d '\n')
    key2=$(openssl rand -base64 64 | tr -d '\n')
    AZURITE_ACCOUNTS="farcache:$key1;fartarget:$key2" \
        node "$AZURITE_FOLDER/node_modules/azurite/dist/src/blob/main.js" --silent \
        --disableTelemetry --location "$FOLDER" --blobHost 127.0.0.1 --blobPort "$port" "${tls[@]}" \
        >"$FOLDER/azurite.log" 2>&1 &
    PIDS+=($!)
    wait_for_answer "$scheme://127.0.0.1:$port/" "$FOLDER/azurite.log"
    credential azure.farcache "AZURE_STORAGE_KEY=$key1"
    credential azure.fartarget "AZURE_STORAGE_KEY=$key2"
    export FARSHORE_TEST_ENDPOINT=$scheme://127.0.0.1:$port
    export FARSHORE_TEST_CACHE="azure://farcache/cache/some/prefix?endpoint=$FARSHORE_TEST_ENDPOINT/farcache$options"
    export FARSHORE_TEST_TARGET="azure://fartarget/target?endpoint=$FARSHORE_TEST_ENDPOINT/fartarget$options"
}
