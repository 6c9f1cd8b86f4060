/* SPDX-License-Identifier: MIT
 * cmocka with what it needs before it, and checks that show an error's text when they fail. */
#ifndef TESTS_SUPPORT_CHECK_H
#define TESTS_SUPPORT_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "common/err.h"

/* The call succeeds; `err` is the struct that it was given. */
#define check_ok(call, err)                                                                        \
    do {                                                                                           \
        if (!(call))                                                                               \
            fail_msg("%s: %s: %s", #call, err_kind_name((err).kind), (err).text);                  \
    } while (0)

/* The call fails with this kind. */
#define check_fails(call, err, wanted)                                                             \
    do {                                                                                           \
        (err) = ERR_NONE;                                                                          \
        if (call)                                                                                  \
            fail_msg("%s: succeeded", #call);                                                      \
        if ((err).kind != (wanted))                                                                \
            fail_msg("%s: %s instead of %s: %s", #call, err_kind_name((err).kind),                 \
                     err_kind_name(wanted), (err).text);                                           \
    } while (0)

/* The text holds the word: what a person needs to find there. */
#define check_says(err, word)                                                                      \
    do {                                                                                           \
        if (strstr((err).text, (word)) == NULL)                                                    \
            fail_msg("\"%s\" does not say \"%s\"", (err).text, (word));                            \
    } while (0)

/* Ends a test that cannot run here; where all can, FARSHORE_TEST_REQUIRE is set, and it fails. */
#define cannot_run(why)                                                                            \
    do {                                                                                           \
        print_message("SKIP: " why "\n");                                                          \
        assert_null(getenv("FARSHORE_TEST_REQUIRE"));                                              \
        skip();                                                                                    \
    } while (0)

#endif
