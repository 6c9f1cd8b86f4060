#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# No secret comes out: while everything runs on keys, SAS tokens and passwords that we know, none of
# them, nor a piece of one in another writing, stands in a log, an answer, an error text, an argument,
# a file of settings or state, or a core.
. "$(dirname "$0")/../e2e/lib.sh" "$@"
. "$SOURCE/tests/servers/client.sh"
OUT=$TMP/outputs # of every command
mkdir "$OUT"
SECRETS=$TMP/secrets

# --- what is looked for ---

# A secret in its writings: as it is, escaped for a URL (in both cases), as base64, as hex, decoded
# from base64 as hex; each whole and by its first and last 16 characters.
add_secret() { # TEXT
    local text writing
    text=$1
    {
        echo "$text"
        urlencode "$text"
        urlencode "$text" | sed 's/%\(..\)/%\L\1/g'
        printf '%s' "$text" | base64 -w0
        echo
        printf '%s' "$text" | xxd -p -c 0
        printf '%s' "$text" | base64 -d 2>/dev/null | xxd -p -c 0 || true # it need not be base64
    } | while read -r writing; do
        [ ${#writing} -ge 16 ] || continue
        printf '%s\n' "$writing" "${writing:0:16}" "${writing: -16}"
    done >>"$SECRETS"
    sort -u -o "$SECRETS" "$SECRETS"
}

add_folder() { # of credentials: their values, and of a SAS its signature
    local value
    for value in $(sed -n 's/^\(AZURE_STORAGE_KEY\|AWS_SECRET_ACCESS_KEY\|AWS_SESSION_TOKEN\)=//p' "$1"/*); do
        add_secret "$value"
    done
    for value in $(sed -n 's/.*sig=\([^&]*\).*/\1/p' "$1"/*); do
        add_secret "$(printf '%b' "${value//%/\\x}")"
    done
}

leaks() { # FILE...: those that hold one
    grep -aFl -f "$SECRETS" "$@" 2>/dev/null || true
}

none_in() { # WHAT FILE...
    local what=$1 found
    shift
    found=$(leaks "$@")
    [ -z "$found" ] || fail "a secret stands in $what: $found"
    echo "$what: $# clean"
}

# --- what is run ---

count=0
run() { # COMMAND...: both streams kept, whatever its exit code
    count=$((count + 1))
    "$@" >"$OUT/$count.out" 2>"$OUT/$count.err" || echo "exit $?" >>"$OUT/$count.err"
}

tell_worker() { # LINE: prints the first line of the answer
    local answer
    exec {answer}< <(exec curl -sSN --max-time 10 --unix-socket "$socket" telnet://worker <<<"$1")
    head -n 1 <&"$answer"
    kill $!
    exec {answer}<&-
}

farshores() { # keeper, worker, processor, recovery mount
    A status web --json | jq '.vms[0] | .pid, .worker_pid'
    echo "$processor"
    pgrep -f "recover $TMP/rec"
}

look_at_processes() {
    local pid n=0
    for pid in $(farshores); do
        tr '\0' '\n' <"/proc/$pid/cmdline" >"$OUT/cmdline.$pid" && n=$((n + 1))
    done
    [ "$n" -ge 4 ] || fail "only $n processes of farshore run"
}

worker_is_new() {
    local now
    now=$(A status web --json | jq '.vms[0].worker_pid // empty')
    [ -n "$now" ] && [ "$now" != "$worker" ]
}

wrong() { # FOLDER: the credentials of FOLDER/good, each spoilt; what is wrong is a secret, too
    mkdir -p -m 700 "$1"
    local file
    for file in "$ADMIN"/*; do
        case $FARSHORE_TEST_SERVER in
        azurite*) give_wrong "$1/${file##*/}" "AZURE_STORAGE_KEY=$(openssl rand -base64 64 | tr -d '\n')" ;;
        *) give_wrong "$1/${file##*/}" AWS_ACCESS_KEY_ID=AKFARSHORETEST "AWS_SECRET_ACCESS_KEY=$(openssl rand -hex 20)" ;;
        esac
    done
}
give_wrong() { (umask 077 && printf '%s\n' "${@:2}" >"$1"); }

say "every verb, with credentials that work"
ulimit -c unlimited
mkdir -p "$TMP/disks" "$TMP/src" "$TMP/rec"
truncate -s 16M "$TMP/disks/os.raw"
run A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE" --target "$TARGET"
make_roles
wrong "$TMP/wrong"
for folder in "$ADMIN" "$TMP/roles"/* "$TMP/wrong"; do add_folder "$folder"; done
add_secret "$(cat "$TMP/a/config/keys/web.key")" # in that file alone
echo "$(wc -l <"$SECRETS") writings of secrets"
FARSHORE_CREDENTIALS=$TMP/roles/source run A mount web "$TMP/src" --cut-interval 1
FARSHORE_CREDENTIALS=$TMP/roles/viewer run B join "$TARGET" --key "$TMP/a/config/keys/web.key"
FARSHORE_CREDENTIALS=$TMP/roles/processor start_processor web "$TMP/process.log"
dd if=/dev/urandom of="$TMP/src/os.img" bs=1M count=8 conv=notrunc status=none
run A point web --wait=target --timeout 60
FARSHORE_CREDENTIALS=$TMP/roles/viewer run B recover "$TMP/rec" --writable drill
[ -e "$TMP/rec/web/latest/os.img" ] || fail "nothing is to be seen: $(cat "$OUT"/*.err)"
for verb in "status --json" "status" "pause web" "resume web" "resync web"; do run A $verb; done
for verb in "points web --json" "verify web" "status --json"; do run B $verb; done
look_at_processes
socket=$(find "$TMP/a/run" -type s | head -n 1)
for command in status pause resume nonsense; do
    run tell_worker "{\"command\":\"$command\"}"
    [ -s "$OUT/$count.out" ] || fail "the worker does not answer to $command"
done

say "every verb, with credentials that do not"
export FARSHORE_CREDENTIALS=$TMP/wrong
for verb in "enable two --disk os=$TMP/disks/two.raw --cache $CACHE --target $TARGET" "status --json"; do
    truncate -s 16M "$TMP/disks/two.raw"
    run A $verb
done
for verb in "points web" "verify web" "status --json" "process web --once" "join $TARGET --key $TMP/a/config/keys/web.key"; do
    run B $verb
done
export FARSHORE_CREDENTIALS=$ADMIN
grep -q 403 "$OUT"/*.err || fail "no verb was refused"

# A worker that dies leaves no core, or one without them; where the kernel puts it, its pattern says.
say "cores"
worker=$(A status web --json | jq '.vms[0].worker_pid')
cwd=$(readlink "/proc/$worker/cwd")
pattern=$(cat /proc/sys/kernel/core_pattern)
grep '^Max core file size *unlimited' "/proc/$worker/limits" >/dev/null || echo "the worker allows no core"
kill -ABRT "$worker"
wait_for 30 worker_is_new
case $pattern in
"|"*) echo "the kernel's pattern pipes cores to a program: not looked at" ;;
*)
    case $pattern in /*) ;; *) pattern=$cwd/$pattern ;; esac
    cores=$(find "$(dirname "$pattern")" -maxdepth 1 -name "$(basename "${pattern%%%*}")*" -type f \
        -newer "$SECRETS")
    # shellcheck disable=SC2086
    [ -z "$cores" ] || { found=$(leaks $cores); rm -f $cores; }
    [ -z "${found:-}" ] || fail "a secret stands in a core: $found"
    echo "cores left: ${cores:-none}"
    ;;
esac

say "the end"
umount "$TMP/rec"
A unmount "$TMP/src" --wait >"$OUT/unmount.out" 2>&1
kill "$processor"
wait "$processor" || true
logs=$(find "$TMP/a/state" "$TMP/b/state" "$TMP/process.log" -type f)
none_in "outputs of $count commands, and arguments" "$OUT"/*
# shellcheck disable=SC2086
none_in "logs and state" $logs
# shellcheck disable=SC2046
none_in "settings" $(find "$TMP/a/config" "$TMP/b/config" "$TMP/a/run" -type f -not -path '*/keys/*')

say "the search can fail"
i=0
while read -r writing; do
    [ $((i++ % 7)) -eq 0 ] || continue
    printf 'x=%s&y' "$writing" >"$TMP/planted"
    [ -n "$(leaks "$TMP/planted")" ] || fail "a planted secret was not found"
done <"$SECRETS"
echo "$i writings, every seventh planted and found"
say "passed in $SECONDS s"
