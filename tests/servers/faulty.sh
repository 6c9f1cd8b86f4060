# SPDX-License-Identifier: MIT
# The project's own HTTP store (tests/support/http_store.h) as a process, with the faults that
# FAULTY_OPTIONS asks for (build/tests/faulty_store says which there are); sourced by with.sh.
# FARSHORE_TEST_FAULTY is its pid: SIGUSR2 there makes it take the faults in FARSHORE_TEST_FOLDER/faults.
# FAULTY_DIALECT is s3 or azure; FAULTY_STORE the binary, when it lies elsewhere than in build/.
# shellcheck shell=bash disable=SC2154
start_faulty() {
    local binary=${FAULTY_STORE:-$SERVERS/../../build/tests/faulty_store}
    local dialect=${FAULTY_DIALECT:-s3} port
    [ -x "$binary" ] || skip "no $binary: build the target faulty_store"
    # shellcheck disable=SC2086 # several options
    setpriv --pdeathsig KILL "$binary" --dialect "$dialect" --faults "$FOLDER/faults" ${FAULTY_OPTIONS:-} >"$FOLDER/port" 2>"$FOLDER/faulty.log" &
    PIDS+=($!)
    until [ -s "$FOLDER/port" ]; do
        kill -0 "${PIDS[-1]}" 2>/dev/null || { cat "$FOLDER/faulty.log" >&2; exit 1; }
        sleep 0.05
    done
    port=$(<"$FOLDER/port")
    export FARSHORE_TEST_FAULTY=${PIDS[-1]}
    export FARSHORE_TEST_ENDPOINT=http://127.0.0.1:$port
    if [ "$dialect" = azure ]; then
        # Any base64 will do: nobody checks what is signed with it.
        credential azure.farcache "AZURE_STORAGE_KEY=Y2FjaGU="
        credential azure.fartarget "AZURE_STORAGE_KEY=dGFyZ2V0"
        export FARSHORE_TEST_CACHE="azure://farcache/cache/some/prefix?endpoint=$FARSHORE_TEST_ENDPOINT/farcache"
        export FARSHORE_TEST_TARGET="azure://fartarget/target?endpoint=$FARSHORE_TEST_ENDPOINT/fartarget"
    else
        credential s3.far-cache AWS_ACCESS_KEY_ID=AKFAULTY AWS_SECRET_ACCESS_KEY=any
        credential s3.far-target AWS_ACCESS_KEY_ID=AKFAULTY AWS_SECRET_ACCESS_KEY=any
        export FARSHORE_TEST_CACHE="s3://far-cache/some/prefix?endpoint=$FARSHORE_TEST_ENDPOINT"
        export FARSHORE_TEST_TARGET="s3://far-target?endpoint=$FARSHORE_TEST_ENDPOINT"
    fi
}
