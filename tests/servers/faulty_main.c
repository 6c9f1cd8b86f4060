/* SPDX-License-Identifier: MIT
 * The HTTP store as a process, for scripts and benchmarks: prints its port, then serves until it
 * gets SIGTERM or SIGINT. With --record, SIGUSR1 prints what was asked since the last one, a line
 * each: METHOD TARGET STATUS BEGUN, in ms. Credentials are ignored. Faults are written KIND=N for
 * the next N requests, KIND=N@K for those after K that go well, KIND=N% for so many of a hundred,
 * with METHOD[,METHOD]: before them when they do not concern all. With --faults, SIGUSR2 puts those
 * of FILE, one a line, in the place of all that were there, and removes FILE. */
#include "tests/support/http_store.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[HTTP_FAULTS] = {
    [HTTP_LOSE_REPLY] = "lose-reply",
    [HTTP_REFUSE] = "refuse",
    [HTTP_CUT_UP] = "cut-up",
    [HTTP_CUT_DOWN] = "cut-down",
    [HTTP_FLIP_UP] = "flip-up",
    [HTTP_FLIP_DOWN] = "flip-down",
    [HTTP_REDIRECT] = "redirect",
    [HTTP_STALL] = "stall",
    [HTTP_STALL_DOWN] = "stall-down",
    [HTTP_TRICKLE] = "trickle",
    [HTTP_ENDLESS_HEADERS] = "endless-headers",
    [HTTP_ENDLESS_BODY] = "endless-body",
};

static const char usage[] =
    "usage: faulty_store [--dialect s3|azure] [--port N] [--delay MS] [--page N] [--seed N]\n"
    "                    [--skew S] [--lag PUTS] [--lag-ms MS] [--ignore-conditions] [--record]\n"
    "                    [--unchecked] [--tell] [--faults FILE]\n"
    "                    [--status N] [--retry-after TEXT] [--to-port N]   of faults behind them\n"
    "                    [--fault [METHOD[,...]:]KIND=N[%|@K]] ...\n"
    "A status of 0: 503, 429 or 500 by chance.\n"
    "KIND: lose-reply refuse cut-up cut-down flip-up flip-down redirect stall stall-down trickle\n"
    "      endless-headers endless-body\n";

static void fail(const char *what)
{
    fprintf(stderr, "faulty_store: %s\n%s", what, usage);
    exit(2);
}

static uint64_t number(const char *text)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *end != '\0')
        fail(text);
    return value;
}

struct settings {
    struct http_store_config config;
    struct http_rule rule; /* what the next --fault begins with */
    struct http_rule rules[HTTP_FAULTS];
    bool on[HTTP_FAULTS];
    uint32_t delay_ms;
    int64_t skew_s;
    uint64_t lag, lag_ms;
    bool ignore_conditions;
    const char *faults_file;
};

static enum http_fault kind_of(const char *name)
{
    for (enum http_fault f = 0; f < HTTP_FAULTS; f++)
        if (strcmp(kinds[f], name) == 0)
            return f;
    fail(name);
    return HTTP_FAULTS;
}

/* "[METHOD[,METHOD]:]KIND=N[%|@K]"; the text is cut in pieces and kept. */
static void take_fault(struct settings *s, char *text)
{
    struct http_rule rule = s->rule;
    char *colon = strchr(text, ':'), *kind = colon != NULL ? colon + 1 : text;
    char *equals = strchr(kind, '=');
    if (equals == NULL)
        fail(text);
    *equals++ = '\0';
    if (colon != NULL) {
        *colon = '\0';
        rule.method = text;
    }
    enum http_fault f = kind_of(kind);
    char *at = strchr(equals, '@');
    if (at != NULL) {
        *at = '\0';
        rule.skip = (uint32_t)number(at + 1);
    }
    size_t length = strlen(equals);
    bool percent = length > 0 && equals[length - 1] == '%';
    if (percent)
        equals[length - 1] = '\0';
    if (percent)
        rule.per_mille = (uint32_t)number(equals) * 10;
    else
        rule.next = (uint32_t)number(equals);
    s->rules[f] = rule;
    s->on[f] = true;
}

enum {
    DIALECT,
    PORT,
    DELAY,
    PAGE,
    SEED,
    SKEW,
    LAG,
    LAG_MS,
    IGNORE,
    RECORD,
    UNCHECKED,
    TELL,
    FAULTS,
    STATUS,
    AFTER,
    TO,
    FAULT
};

static const struct option options[] = {
    {"dialect", required_argument, NULL, DIALECT},
    {"port", required_argument, NULL, PORT},
    {"delay", required_argument, NULL, DELAY},
    {"page", required_argument, NULL, PAGE},
    {"seed", required_argument, NULL, SEED},
    {"skew", required_argument, NULL, SKEW},
    {"lag", required_argument, NULL, LAG},
    {"lag-ms", required_argument, NULL, LAG_MS},
    {"ignore-conditions", no_argument, NULL, IGNORE},
    {"record", no_argument, NULL, RECORD},
    {"unchecked", no_argument, NULL, UNCHECKED},
    {"tell", no_argument, NULL, TELL},
    {"faults", required_argument, NULL, FAULTS},
    {"status", required_argument, NULL, STATUS},
    {"retry-after", required_argument, NULL, AFTER},
    {"to-port", required_argument, NULL, TO},
    {"fault", required_argument, NULL, FAULT},
    {NULL, 0, NULL, 0},
};

static void take(struct settings *s, int which)
{
    switch (which) {
    case DIALECT:
        if (strcmp(optarg, "s3") != 0 && strcmp(optarg, "azure") != 0)
            fail(optarg);
        s->config.dialect = strcmp(optarg, "azure") == 0 ? HTTP_AZURE : HTTP_S3;
        return;
    case PORT:
        s->config.port = (uint16_t)number(optarg);
        return;
    case DELAY:
        s->delay_ms = (uint32_t)number(optarg);
        return;
    case PAGE:
        s->config.page = (unsigned)number(optarg);
        return;
    case SEED:
        s->config.seed = number(optarg);
        return;
    case SKEW:
        s->skew_s = strtoll(optarg, NULL, 10);
        return;
    case LAG:
        s->lag = number(optarg);
        return;
    case LAG_MS:
        s->lag_ms = number(optarg);
        return;
    case IGNORE:
        s->ignore_conditions = true;
        return;
    case RECORD:
        s->config.record = true;
        return;
    case UNCHECKED:
        s->config.unchecked = true;
        return;
    case TELL:
        s->config.tell = true;
        return;
    case FAULTS:
        s->faults_file = optarg;
        return;
    case STATUS:
        s->rule.status = (unsigned)number(optarg);
        return;
    case AFTER:
        s->rule.retry_after = optarg;
        return;
    case TO:
        s->rule.port = (uint16_t)number(optarg);
        return;
    case FAULT:
        take_fault(s, optarg);
        return;
    default:
        fail("unknown option");
    }
}

static void apply_faults(const struct settings *s, struct http_store *store)
{
    for (enum http_fault f = 0; f < HTTP_FAULTS; f++)
        http_store_fault(store, f, s->on[f] ? &s->rules[f] : NULL);
}

static void apply(const struct settings *s, struct http_store *store)
{
    http_store_delay(store, s->delay_ms);
    http_store_skew_date(store, s->skew_s);
    http_store_lag_lists(store, s->lag);
    http_store_lag_lists_ms(store, s->lag_ms);
    http_store_ignore_conditions(store, s->ignore_conditions);
    apply_faults(s, store);
}

/* Texts of faults that went are kept: requests under way may still look at them. */
static void read_faults(struct settings *s, struct http_store *store)
{
    FILE *f = s->faults_file != NULL ? fopen(s->faults_file, "r") : NULL;
    char *line = NULL;
    size_t room = 0;
    if (f == NULL)
        fail("SIGUSR2 wants --faults FILE");
    memset(s->on, 0, sizeof s->on);
    while (getline(&line, &room, f) > 0) {
        line[strcspn(line, "\n")] = '\0';
        take_fault(s, TAKE(line));
        room = 0;
    }
    free(line);
    fclose(f);
    apply_faults(s, store);
    remove(s->faults_file);
}

static void print_records(struct http_store *store, size_t *printed)
{
    struct http_record r;
    for (; http_store_record(store, *printed, &r); ++*printed) {
        fprintf(stderr, "%s %s %u %llu\n", r.method, r.target, r.status,
                (unsigned long long)r.begun_ms);
        http_record_release(&r);
    }
    fputs("end\n", stderr);
}

int main(int argc, char **argv)
{
    size_t printed = 0;
    struct settings s = {.rule = {.status = 503, .at = HTTP_ANYWHERE}};
    sigset_t signals;
    int which, got;

    while ((which = getopt_long(argc, argv, "", options, NULL)) != -1)
        take(&s, which);
    if (optind < argc)
        fail(argv[optind]);
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGUSR1);
    sigaddset(&signals, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* in all threads that follow */
    signal(SIGPIPE, SIG_IGN);
    struct http_store *store = http_store_start(&s.config);
    if (store == NULL) {
        fprintf(stderr, "faulty_store: cannot listen on 127.0.0.1:%u\n", s.config.port);
        return 1;
    }
    apply(&s, store);
    printf("%u\n", http_store_port(store));
    fflush(stdout);
    while (sigwait(&signals, &got) == 0 && (got == SIGUSR1 || got == SIGUSR2)) {
        if (got == SIGUSR1)
            print_records(store, &printed);
        else
            read_faults(&s, store);
    }
    http_store_stop(&store);
    return 0;
}
