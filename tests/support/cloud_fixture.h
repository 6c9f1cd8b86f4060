/* SPDX-License-Identifier: MIT
 * What the tests of the cloud stores begin with: a faulty HTTP store in one dialect, an open store
 * on it, and a small body to put. */
#ifndef TESTS_SUPPORT_CLOUD_FIXTURE_H
#define TESTS_SUPPORT_CLOUD_FIXTURE_H

#include "tests/support/cloud_rig.h"

#define CLOUD_BODY_BYTES 64u

struct cloud_fixture {
    struct cloud_rig rig;
    struct store *store; /* nothing is tried again */
    uint8_t body[CLOUD_BODY_BYTES];
};

/* For cmocka: *state points to an enum http_dialect before, to the fixture after. */
int cloud_fixture_set_up(void **state);
int cloud_fixture_tear_down(void **state);

/* Tries as often as it takes, at once. */
extern const struct retry_policy cloud_tireless;

struct span cloud_fixture_body(const struct cloud_fixture *f);
void cloud_fixture_put(struct cloud_fixture *f, const char *key);
/* The server holds these bytes under the key. */
void cloud_fixture_check(struct cloud_fixture *f, const char *key, struct span body);

#endif
