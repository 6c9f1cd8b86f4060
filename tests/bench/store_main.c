/* SPDX-License-Identifier: MIT
 * Transfers objects of one size to or from a store, as farshore attaches it, on so many threads,
 * and prints MiB per second:  store_bench put|get URL FIRST COUNT BYTES STREAMS
 * Objects are named bench/N from FIRST on. */
#include "backend/store/attach.h"

#include <stdatomic.h>
#include <stdio.h>

#define STREAMS_MAX 64u

struct job {
    struct store *store;
    bool put;
    uint64_t first, count;
    size_t bytes;
    uint8_t *body; /* what is put; of a get, room for each stream */
    struct sha256 digest;
    atomic_uint_fast64_t next, streams;
    atomic_bool failed;
};

static void *stream(void *context)
{
    struct job *j = context;
    struct err err = ERR_NONE;
    char key[64];
    uint64_t index = j->put ? 0 : atomic_fetch_add(&j->streams, 1);
    struct mspan room = mspan_of(j->body + index * j->bytes, j->bytes);
    for (uint64_t n; (n = atomic_fetch_add(&j->next, 1)) < j->count;) {
        snprintf(key, sizeof key, "bench/%llu", (unsigned long long)(j->first + n));
        if (!(j->put ? store_put_digested(j->store, key, span_of_mspan(room), &j->digest, &err)
                     : store_get(j->store, key, 0, room, &err))) {
            fprintf(stderr, "%s\n", err.text);
            atomic_store(&j->failed, true);
        }
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct world *w = world_real();
    struct store *s AUTO_STORE = NULL;
    struct err err = ERR_NONE;
    pthread_t threads[STREAMS_MAX];

    if (argc != 7) {
        fprintf(stderr, "usage: %s put|get URL FIRST COUNT BYTES STREAMS\n", argv[0]);
        return 2;
    }
    struct attach_config config = {
        .host = {.world = w, .credentials = getenv("FARSHORE_CREDENTIALS"), .env = getenv},
        .url = argv[2],
        .create = true};
    unsigned long streams = strtoul(argv[6], NULL, 10);
    if (streams == 0 || streams > STREAMS_MAX || !store_attach(&config, &s, &err)) {
        fprintf(stderr, "%s\n", err.kind != ERR_OK ? err.text : "1 to 64 streams");
        return 2;
    }
    struct job job = {.store = s,
                      .put = strcmp(argv[1], "put") == 0,
                      .first = strtoull(argv[3], NULL, 10),
                      .count = strtoull(argv[4], NULL, 10),
                      .bytes = strtoull(argv[5], NULL, 10)};
    /* Touched beforehand: a page that comes into being is no transfer. */
    size_t room = job.bytes * (job.put ? 1 : streams);
    uint8_t *body AUTO_FREE = job.body = malloc(room);
    if (body == NULL || w->ops->random(w, body, room) < 0)
        return 1;
    job.digest = sha256_of(span_of(body, job.bytes)); /* farshore's callers have it, too */
    uint64_t begun = w->ops->boottime_ns(w);
    for (unsigned long i = 0; i < streams; i++)
        if (pthread_create(&threads[i], NULL, stream, &job) != 0)
            return 1;
    for (unsigned long i = 0; i < streams; i++)
        pthread_join(threads[i], NULL);
    double seconds = (double)(w->ops->boottime_ns(w) - begun) / 1e9;
    printf("%.1f\n", (double)(job.count * job.bytes) / 1048576 / seconds);
    return atomic_load(&job.failed) ? 1 : 0;
}
