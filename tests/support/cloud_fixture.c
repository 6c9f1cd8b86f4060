/* SPDX-License-Identifier: MIT */
#include "tests/support/cloud_fixture.h"

#include <stdlib.h>

#include "tests/support/check.h"

int cloud_fixture_set_up(void **state)
{
    struct cloud_fixture *f = calloc(1, sizeof *f);
    if (f == NULL)
        return -1;
    cloud_rig_init(&f->rig, *(enum http_dialect *)*state, 7);
    f->store = cloud_rig_open(&f->rig);
    for (size_t i = 0; i < CLOUD_BODY_BYTES; i++)
        f->body[i] = (uint8_t)(i * 37 + 1);
    *state = f;
    return 0;
}

int cloud_fixture_tear_down(void **state)
{
    struct cloud_fixture *f = *state;
    store_close(&f->store);
    cloud_rig_release(&f->rig);
    free(f);
    return 0;
}

struct span cloud_fixture_body(const struct cloud_fixture *f)
{
    return span_of(f->body, CLOUD_BODY_BYTES);
}

static bool no_pause(void *context, uint32_t ms)
{
    (void)context, (void)ms;
    return true;
}

const struct retry_policy cloud_tireless = {.pause_ms = 1,
                                            .pause_max_ms = 1,
                                            .deadline_ms = UINT32_MAX,
                                            .budget = 1u << 20,
                                            .pause = no_pause};

void cloud_fixture_put(struct cloud_fixture *f, const char *key)
{
    struct err err = ERR_NONE;
    check_ok(store_put(f->store, key, cloud_fixture_body(f), &err), err);
}

void cloud_fixture_check(struct cloud_fixture *f, const char *key, struct span body)
{
    struct buf found AUTO_BUF = BUF_NONE;
    assert_true(http_store_object(f->rig.server, cloud_rig_name(&f->rig, key), &found));
    assert_true(span_equal(buf_span(&found), body));
}
