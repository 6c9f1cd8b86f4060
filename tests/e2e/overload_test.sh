#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A guest that writes five times what goes up, for STRESS_SECONDS (40): the state says so within a
# minute, with a forecast; memory, undo, threads and open files stay below what docs/LIMITS.md says;
# epochs merge; the store goes away in the middle of it (for a twentieth of the time); the guest
# sees nothing of all that. Then the load stops, and everything is shipped without help.
. "$(dirname "$0")/lib.sh" "$@"
need fio
case $CACHE in file://*) ;; *) skip "the cache is moved away as a folder" ;; esac
: "${STRESS_SECONDS:=40}"
if [ "$STRESS_SECONDS" -gt 300 ]; then UP=1 SET=200; else UP=2 SET=96; fi # MiB a second; MiB written to
INTERVAL=5
IO_MAX_MS=5000

status() { A status web --json | jq -r ".vms[0].$1"; }
state_is() { [ "$(status state)" = "$1" ]; }
state_is_not() { [ "$(status state)" != "$1" ]; }
# Some UP * 5 MiB a second, in bursts: fio's own --rate may spin between two writes for all of an hour,
# when the machine was busy as it began.
load() { # SECONDS OUTPUT
    exec fio --name=load --filename="$TMP/src/os.img" --offset=8M --size=${SET}M --direct=1 --ioengine=libaio \
        --iodepth=4 --rw=randwrite --bssplit=4k/60:16k/30:64k/10 --thinktime=60ms \
        --thinktime_blocks=$((UP * 40)) --time_based --runtime="$1" --fsync=256 --refill_buffers \
        --randrepeat=0 --output-format=json --output="$2" >"$2.log" 2>&1
}
latency() { # OUTPUT: median, 99th percentile and maximum in ms; the rate in MiB/s
    jq -r '.jobs[0] | [.write.clat_ns.percentile["50.000000"], .write.clat_ns.percentile["99.000000"],
        ([.write.clat_ns.max, .sync.lat_ns.max] | max) | . / 1e6], .write.bw_bytes / 1048576 |
        if type == "array" then .[] else . end' "$1" | xargs printf '%.2f '
}

# A line a second for each process: who, KiB resident, threads, open files. What goes away while one
# looks does not end the watch.
sample() { # NAME PID
    local rss threads files
    rss=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$2/status") || return 0
    threads=$(sed -n 's/^Threads:[^0-9]*//p' "/proc/$2/status") || return 0
    files=$(find "/proc/$2/fd" -mindepth 1 2>/dev/null | wc -l) || true
    [ -z "$rss" ] || echo "$1 $rss $threads $files" >>"$TMP/samples"
}
undo_file_kib() { # of the worker's file without a name
    find "/proc/$1/fd" -lname '*/undo (deleted)' -exec stat -Lc '%b' {} + 2>/dev/null | awk '{n += $1} END {print n / 2}'
}
watch_all() { # until it is killed
    local line state undo seconds=0
    while :; do
        line=$(A status web --json | jq -r '.vms[0] | [.state, .pid, .worker_pid, .undo_bytes, .dirty_bytes,
            .epoch, .cache_lag_seconds, .catch_up_idle_seconds] | map(. // "-") | join(" ")') || line=
        read -r state keeper worker undo rest <<<"$line" || true
        sample keeper "$keeper"
        sample worker "$worker"
        sample processor "$processor"
        echo "$((SECONDS)) $state $undo $(undo_file_kib "$worker") $rest" >>"$TMP/states"
        sleep 1
    done
}

# The limits are those of the manual, in KiB, threads, files.
limits() { # NAME
    sed -n "s/^| $1 | \([0-9]*\) MiB | \([0-9]*\) | \([0-9]*\) |\$/\1 \2 \3/p" "$SOURCE/docs/LIMITS.md"
}
check_limits() { # NAME
    local memory threads files
    read -r memory threads files <<<"$(limits "$1")"
    [ -n "$files" ] || fail "docs/LIMITS.md says nothing of the $1"
    # The parts in flight take half a minute to fill what they may have: who grows is told in an hour.
    awk -v name="$1" -v long=$((STRESS_SECONDS > 300)) -v memory=$((memory * 1024)) -v threads="$threads" -v files="$files" '
        $1 == name {n++; rss[n] = $2; if ($2 > m) m = $2; if ($3 > t) t = $3; if ($4 > f) f = $4}
        END {
            for (i = 1; i <= n; i++) if (i > n * 3 / 4 && rss[i] > last) last = rss[i]
            for (i = 1; i <= n; i++) if (i > n / 4 && i <= n / 2 && rss[i] > early) early = rss[i]
            printf "%s: %d samples; memory %.1f MiB of %d (2nd quarter %.1f, last %.1f), threads %d of %d, files %d of %d\n",
                name, n, m / 1024, memory / 1024, early / 1024, last / 1024, t, threads, f, files
            exit !(n > 0 && m <= memory && t <= threads && f <= files && (!long || last <= early * 1.25 + 8192))
        }' "$TMP/samples" || fail "the $1 left its limits, or grows"
}

say "a VM with data in it, and what its guest sees without replication"
mkdir -p "$TMP/disks"
head -c $((SET + 16))M /dev/urandom >"$TMP/disks/os.raw"
A enable web --disk "os=$TMP/disks/os.raw" --cache "$CACHE" --target "$TARGET" >/dev/null
mount_vm web --cut-interval $INTERVAL
join_vm web >/dev/null
start_processor web "$TMP/process.log"
A point web --wait=target --timeout 120 >/dev/null
A pause web
(load 5 "$TMP/alone")
A resume web
wait_for 60 state_is protected
A set web bandwidth=${UP}M

say "too much for $STRESS_SECONDS s"
epochs=$(status epoch) begun=$SECONDS
(load 100000 "$TMP/loaded") & fio=$!
PIDS+=($fio)
watch_all & watcher=$!
PIDS+=($watcher)
told() { why=$(A status web --json | jq -r '.vms[0] | select(.state == "not-converging") | .reason') && [ -n "$why" ]; }
wait_for 60 told
echo "not-converging after $((SECONDS - begun)) s: $why"
says 'would catch up in [0-9].* if writing stopped, at the present rate of writing never' <<<"$why" ||
    fail "no forecast: $why"
[ "$(status catch_up_seconds)" = null ] || fail "it catches up, it says"
[ "$(status catch_up_idle_seconds)" -gt 0 ] || fail "no forecast in JSON"
A status web | says 'would catch up in' || fail "people are told nothing of it"
[ $((SECONDS - begun)) -ge "$STRESS_SECONDS" ] || sleep $((STRESS_SECONDS - SECONDS + begun))
made=$(($(status epoch) - epochs)) spent=$((SECONDS - begun))
echo "$made epochs in $spent s, $((spent / INTERVAL)) cuts were due"
[ $((made * 2)) -lt $((spent / INTERVAL)) ] || fail "epochs do not merge"
for process in keeper worker processor; do check_limits $process; done

say "and the store is gone"
mv "$TMP/cache" "$TMP/cache-away"
wait_for 60 state_is stalled
sleep $((STRESS_SECONDS / 20))
state_is stalled || fail "it says $(status state) while the store is gone"
mv "$TMP/cache-away" "$TMP/cache"
[ "$STRESS_SECONDS" -gt 300 ] || A set web bandwidth=unlimited # the test command cannot wait so long
wait_for $((SET / UP + 150)) state_is_not stalled # when an epoch has gone up: at this rate that takes a while

say "the load stops"
kill -INT $fio
wait $fio || true # interrupted, it says so before its figures
sed -i -n '/^{/,$p' "$TMP/loaded"
[ "$(jq '.jobs[0].error' "$TMP/loaded")" = 0 ] || { cat "$TMP/loaded.log"; fail "fio saw an error"; }
wait_for 60 state_is_not not-converging
echo "$(status state): $(status reason)"
caught_up() { state_is protected && [ "$(status dirty_bytes)" = 0 ]; }
wait_for $((SET * 2 / UP + 120)) caught_up
kill $watcher || fail "the watch ended before"
point=$(A point web --wait=target --timeout 60)
kill -0 "$processor" || fail "the processor ended: $(cat "$TMP/process.log")"

say "what all that took"
read -r median99 tail99 worst0 rate0 <<<"$(latency "$TMP/alone")"
read -r median tail worst rate <<<"$(latency "$TMP/loaded")"
echo "guest writes, paused: median $median99 ms, p99 $tail99 ms, worst $worst0 ms, $rate0 MiB/s"
echo "guest writes, loaded: median $median ms, p99 $tail ms, worst $worst ms, $rate MiB/s"
[ "${worst%.*}" -lt $IO_MAX_MS ] || fail "an I/O took $worst ms"
# An hour tells, not what else went on for a moment.
[ "$STRESS_SECONDS" -le 300 ] || awk "BEGIN {exit !($median <= 2 * $median99 + 1 && $tail <= 2 * $tail99 + 10)}" ||
    fail "the guest notices: median and p99 as above"
for process in keeper worker processor; do check_limits $process; done
awk -v limit=$((1024 + 16)) '
    $3 > u {u = $3} $4 > f {f = $4} {seen[$2]++}
    END {
        printf "undo %.1f MiB of %d, its file %.1f MiB;", u / 1048576, limit, f / 1024
        for (state in seen) printf " %s %d s,", state, seen[state]
        print ""
        exit !(u <= limit * 1048576 && f <= 1024 * 1024)
    }' "$TMP/states" || fail "the undo left its limits"
[ "$(status worker_restarts)" = 0 ] || fail "the worker was restarted"

say "the point is the disk"
point_is_the_disk web "$point" os
say "passed"
