/* SPDX-License-Identifier: MIT */
#include "backend/store/xml.h"

#include "tests/support/check.h"

#include <libxml/parser.h>
#include <stdio.h>

/* What a page gave: "NAME:SIZE NAME:SIZE ", and the next page's marker. */
struct seen {
    char text[512];
    char marker[XML_MARKER_MAX];
    unsigned count, stop_after; /* 0: never */
    bool stopped;
};

static bool note(void *context, const char *key, uint64_t bytes)
{
    struct seen *s = context;
    size_t used = strlen(s->text);
    snprintf(s->text + used, sizeof s->text - used, "%s:%llu ", key, (unsigned long long)bytes);
    return ++s->count != s->stop_after;
}

static bool list(enum xml_dialect dialect, struct span text, struct seen *s, struct err *err)
{
    s->text[0] = '\0';
    s->count = 0;
    return xml_list(dialect, text, note, s, &s->stopped, s->marker, err);
}

static void check_list(enum xml_dialect dialect, const char *text, const char *wanted,
                       const char *marker)
{
    struct seen s = {.stop_after = 0};
    struct err err = ERR_NONE;
    check_ok(list(dialect, span_of_text(text), &s, &err), err);
    assert_string_equal(s.text, wanted);
    assert_string_equal(s.marker, marker);
    assert_false(s.stopped);
}

static void check_refused(enum xml_dialect dialect, const char *text, const char *word)
{
    struct seen s = {.stop_after = 0};
    struct err err;
    check_fails(list(dialect, span_of_text(text), &s, &err), err, ERR_CORRUPT);
    check_says(err, word);
    assert_int_equal(s.count, 0); /* nothing of a page that is wrong is shown */
}

#define S3(content) "<ListBucketResult>" content "</ListBucketResult>"
#define OBJECT(key, size)                                                                          \
    "<Contents><Key>" key "</Key><LastModified>x</LastModified><Size>" size "</Size></Contents>"
#define AZURE(content) "<EnumerationResults>" content "</EnumerationResults>"
#define BLOB(name, size)                                                                           \
    "<Blob><Name>" name "</Name><Properties><Etag>x</Etag><Content-Length>" size                   \
    "</Content-Length></Properties></Blob>"

/* --- pages as the services write them --- */

static void a_page_of_s3_is_read(void **state)
{
    (void)state;
    check_list(XML_S3,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\n"
               "  <Name>bucket</Name><Prefix>p/</Prefix><KeyCount>2</KeyCount>\n"
               "  <MaxKeys>2</MaxKeys><IsTruncated>true</IsTruncated>\n"
               "  <Contents><Key>p/a</Key><ETag>&quot;9b2c&quot;</ETag><Size>0</Size>"
               "<Owner><ID>x</ID><DisplayName>y</DisplayName></Owner></Contents>\n"
               "  <Contents><Key>p/b</Key><Size>18446744073709551615</Size></Contents>\n"
               "  <NextContinuationToken>1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=</"
               "NextContinuationToken>\n"
               "</ListBucketResult>\n",
               "p/a:0 p/b:18446744073709551615 ", "1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=");
}

static void a_page_of_azure_is_read(void **state)
{
    (void)state;
    check_list(XML_AZURE,
               "\xef\xbb\xbf<?xml version=\"1.0\" encoding=\"utf-8\"?>"
               "<EnumerationResults ServiceEndpoint=\"https://a.blob.core.windows.net/\" "
               "ContainerName=\"c\"><Prefix>p/</Prefix><Blobs>"
               "<Blob><Name>p/a</Name><Properties><Content-Length>7</Content-Length>"
               "<Content-Type>x</Content-Type><Content-MD5 /></Properties><OrMetadata /></Blob>"
               "<Blob><Name>p/b</Name><Properties><Content-Length>8</Content-Length></Properties>"
               "</Blob></Blobs><NextMarker>2!80!MDAw</NextMarker></EnumerationResults>",
               "p/a:7 p/b:8 ", "2!80!MDAw");
}

static void an_empty_page_is_the_last(void **state)
{
    (void)state;
    check_list(XML_S3, S3("<IsTruncated>false</IsTruncated>"), "", "");
    check_list(XML_S3, "<ListBucketResult/>", "", "");
    check_list(XML_AZURE, AZURE("<Blobs /><NextMarker />"), "", "");
    check_list(XML_AZURE, AZURE("<Blobs></Blobs>"), "", "");
}

/* Azure may answer so while it looks on. */
static void a_page_without_objects_may_go_on(void **state)
{
    (void)state;
    check_list(XML_AZURE, AZURE("<Blobs/><NextMarker>m</NextMarker>"), "", "m");
    check_list(XML_S3,
               S3("<IsTruncated>true</IsTruncated><NextContinuationToken>m</"
                  "NextContinuationToken>"),
               "", "m");
}

static void a_marker_of_a_page_that_is_not_cut_short_does_not_count(void **state)
{
    (void)state;
    check_list(XML_S3,
               S3("<NextContinuationToken>m</NextContinuationToken><IsTruncated>false</"
                  "IsTruncated>" OBJECT("a", "1")),
               "a:1 ", "");
}

static void a_page_that_goes_on_but_says_not_where_is_refused(void **state)
{
    (void)state;
    check_refused(XML_S3, S3(OBJECT("a", "1") "<IsTruncated>true</IsTruncated>"), "where");
}

static void namespaces_and_their_prefixes_do_not_matter(void **state)
{
    (void)state;
    check_list(XML_S3,
               "<s:ListBucketResult xmlns:s=\"urn:x\"><s:Contents><s:Key>a</s:Key><Size "
               "xmlns=\"urn:y\">1</Size></s:Contents></s:ListBucketResult>",
               "a:1 ", "");
}

static void predefined_entities_and_references_are_read(void **state)
{
    (void)state;
    check_list(XML_S3, S3(OBJECT("a&amp;b&lt;&gt;&quot;&apos;&#x41;&#66;", "1")), "a&b<>\"'AB:1 ",
               "");
}

static void cdata_is_text(void **state)
{
    (void)state;
    check_list(XML_AZURE, AZURE("<Blobs>" BLOB("a<![CDATA[<&]]>b", "<![CDATA[12]]>") "</Blobs>"),
               "a<&b:12 ", "");
}

static void elements_of_the_same_name_elsewhere_do_not_count(void **state)
{
    (void)state;
    check_list(XML_S3,
               S3("<Key>x</Key><Size>9</Size><CommonPrefixes><Contents><Key>y</Key></Contents>"
                  "</CommonPrefixes>" OBJECT("a", "1")),
               "a:1 ", "");
}

static void comments_and_instructions_are_passed_over(void **state)
{
    (void)state;
    check_list(XML_S3, "<!-- x --><?p q?>" S3("<!-- <Key>no</Key> -->" OBJECT("a<!-- x -->b", "1")),
               "ab:1 ", "");
}

static void other_encodings_are_read_as_utf8(void **state)
{
    (void)state;
    check_list(XML_S3, "<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?>" S3(OBJECT("\xe4", "1")),
               "\xc3\xa4:1 ", "");
}

static void each_may_stop_the_list(void **state)
{
    (void)state;
    struct seen s = {.stop_after = 2};
    struct err err = ERR_NONE;
    check_ok(list(XML_S3, span_of_text(S3(OBJECT("a", "1") OBJECT("b", "2") OBJECT("c", "3"))), &s,
                  &err),
             err);
    assert_string_equal(s.text, "a:1 b:2 ");
    assert_true(s.stopped);
}

/* --- hostile bytes --- */

static unsigned loads;

static xmlParserInputPtr count_load(const char *url, const char *id, xmlParserCtxtPtr context)
{
    (void)url, (void)id, (void)context;
    loads++;
    return NULL;
}

static void documents_with_a_type_of_their_own_are_refused(void **state)
{
    (void)state;
    static const char *const types[] = {
        "<!DOCTYPE ListBucketResult>",
        "<!DOCTYPE ListBucketResult SYSTEM \"http://127.0.0.1:1/x.dtd\">",
        "<!DOCTYPE ListBucketResult SYSTEM \"file:///etc/passwd\">",
        "<!DOCTYPE r [<!ENTITY x \"y\">]>",
        "<!DOCTYPE r [<!ENTITY x SYSTEM \"file:///etc/passwd\">]>",
        "<!DOCTYPE r [<!ENTITY % x SYSTEM \"file:///etc/passwd\"> %x;]>",
        "<!DOCTYPE r [<!ATTLIST Key a CDATA \"x\">]>",
    };
    xmlExternalEntityLoader before = xmlGetExternalEntityLoader();
    loads = 0;
    xmlSetExternalEntityLoader(count_load);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char text[512];
        snprintf(text, sizeof text, "%s%s", types[i], S3(OBJECT("a", "1")));
        check_refused(XML_S3, text, "well-formed");
        snprintf(text, sizeof text, "%s<Error><Code>x</Code></Error>", types[i]);
        char out[16];
        assert_false(xml_text(span_of_text(text), "Error/Code", out, sizeof out));
    }
    xmlSetExternalEntityLoader(before);
    assert_int_equal(loads, 0);
}

static void a_billion_laughs_are_refused(void **state)
{
    (void)state;
    char text[4096] = "<!DOCTYPE r [<!ENTITY l0 \"ha\">";
    for (unsigned i = 1; i < 12; i++) {
        size_t used = strlen(text);
        snprintf(text + used, sizeof text - used,
                 "<!ENTITY l%u \"&l%u;&l%u;&l%u;&l%u;&l%u;&l%u;&l%u;&l%u;&l%u;&l%u;\">", i, i - 1,
                 i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1, i - 1);
    }
    strcat(text, "]>" S3(OBJECT("&l11;", "1")));
    check_refused(XML_S3, text, "well-formed");
}

static void an_entity_that_is_not_declared_is_refused(void **state)
{
    (void)state;
    check_refused(XML_S3, S3(OBJECT("&unknown;", "1")), "well-formed");
}

static void what_is_not_xml_or_ends_early_is_refused(void **state)
{
    (void)state;
    static const char whole[] = S3(OBJECT("a", "1"));
    check_refused(XML_S3, "", "well-formed");
    check_refused(XML_S3, "not XML", "well-formed");
    check_refused(XML_S3, "<ListBucketResult></Other>", "well-formed");
    check_refused(XML_S3, S3("") "<more/>", "well-formed");
    check_refused(XML_S3, S3(OBJECT("\x01", "1")), "well-formed");
    check_refused(XML_S3, S3(OBJECT("\xff\xfe", "1")), "well-formed");
    for (size_t length = 1; length < sizeof whole - 1; length++) {
        char text[sizeof whole];
        snprintf(text, sizeof text, "%.*s", (int)length, whole);
        check_refused(XML_S3, text, "well-formed");
    }
}

static void a_document_of_another_kind_is_refused(void **state)
{
    (void)state;
    check_refused(XML_S3, "<Error><Code>x</Code></Error>", "no list");
    check_refused(XML_S3, AZURE("<Blobs/>"), "no list");
    check_refused(XML_AZURE, S3(OBJECT("a", "1")), "no list");
    check_refused(XML_S3, "<ListBucketResultS/>", "no list");
    check_refused(XML_S3, "<ListBucket/>", "no list");
}

static void an_object_without_name_or_size_is_refused(void **state)
{
    (void)state;
    check_refused(XML_S3, S3("<Contents><Key>a</Key></Contents>"), "no name or no size");
    check_refused(XML_S3, S3("<Contents><Size>1</Size></Contents>"), "no name or no size");
    check_refused(XML_S3, S3("<Contents/>"), "no name or no size");
    check_refused(XML_S3, S3(OBJECT("a", "1") "<Contents><Key>b</Key></Contents>"),
                  "no name or no size");
    check_refused(XML_AZURE, AZURE("<Blobs><Blob><Name>a</Name></Blob></Blobs>"),
                  "no name or no size");
    check_refused(XML_S3, S3(OBJECT("", "1")), "a name in it is empty");
    check_refused(XML_S3, S3(OBJECT("a<b/>c", "1")), "a name in it is empty");
    check_refused(XML_S3, S3(OBJECT("<b>c</b>", "1")), "a name in it is empty");
}

static void sizes_that_are_no_number_are_refused(void **state)
{
    (void)state;
    check_refused(XML_S3, S3(OBJECT("a", "")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "-1")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "+1")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", " 1")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "1 ")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "0x10")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "1.5")), "no number");
    check_refused(XML_S3, S3(OBJECT("a", "18446744073709551616")), "no number");
}

/* `count` times `text` between `before` and `after`. */
static void repeat(struct buf *out, const char *before, const char *text, size_t count,
                   const char *after)
{
    buf_put(out, before, strlen(before));
    for (size_t i = 0; i < count; i++)
        buf_put(out, text, strlen(text));
    buf_put(out, after, strlen(after) + 1);
}

/* Somebody else's: none of ours is so long. */
static void a_name_longer_than_any_of_ours_is_passed_over(void **state)
{
    (void)state;
    static const size_t lengths[] = {STORE_KEY_MAX + 513, XML_MARKER_MAX, 100000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct buf text AUTO_BUF = BUF_NONE;
        repeat(&text, "<ListBucketResult>" OBJECT("a", "1") "<Contents><Key>", "x", lengths[i],
               "</Key><Size>2</Size></Contents>" OBJECT("y", "3") "</ListBucketResult>");
        check_list(XML_S3, (const char *)text.data, "a:1 y:3 ", "");
    }
    struct buf parts AUTO_BUF = BUF_NONE; /* its end is no name of its own */
    repeat(&parts, "<ListBucketResult><Contents><Key>", "x", XML_MARKER_MAX,
           "<!-- x -->b</Key><Size>2</Size></Contents></ListBucketResult>");
    check_list(XML_S3, (const char *)parts.data, "", "");
}

static void a_text_that_nobody_wants_may_be_long(void **state)
{
    (void)state;
    struct buf text AUTO_BUF = BUF_NONE;
    char out[16];
    repeat(&text, "<Error><Detail>", "so much is said ", 1000,
           "</Detail><Code>SlowDown</Code></Error>");
    text.length--;
    assert_true(xml_text(buf_span(&text), "Error/Code", out, sizeof out));
    assert_string_equal(out, "SlowDown");
    assert_false(xml_text(buf_span(&text), "Error/Detail", out, sizeof out));
}

static void markers_and_sizes_that_are_too_long_are_refused(void **state)
{
    (void)state;
    struct buf marker AUTO_BUF = BUF_NONE, size AUTO_BUF = BUF_NONE;
    repeat(&marker, "<EnumerationResults><NextMarker>", "a", XML_MARKER_MAX,
           "</NextMarker></EnumerationResults>");
    check_refused(XML_AZURE, (const char *)marker.data, "its marker is too long");
    repeat(&size, "<ListBucketResult><Contents><Key>a</Key><Size>", "0", XML_MARKER_MAX,
           "</Size></Contents></ListBucketResult>");
    check_refused(XML_S3, (const char *)size.data, "no number");
}

static void what_nests_too_deep_is_refused(void **state)
{
    (void)state;
    struct seen s = {.stop_after = 0};
    for (size_t depth = XML_DEPTH_MAX - 1; depth <= XML_DEPTH_MAX; depth++) {
        struct buf text AUTO_BUF = BUF_NONE;
        struct err err;
        repeat(&text, "<ListBucketResult>", "<x>", depth, "");
        text.length--;
        repeat(&text, "", "</x>", depth, "</ListBucketResult>");
        text.length--;
        if (depth < XML_DEPTH_MAX)
            check_ok(list(XML_S3, buf_span(&text), &s, &err), err);
        else
            check_fails(list(XML_S3, buf_span(&text), &s, &err), err, ERR_CORRUPT);
    }
}

static void more_objects_or_bytes_than_a_page_has_are_refused(void **state)
{
    (void)state;
    struct buf many AUTO_BUF = BUF_NONE, large AUTO_BUF = BUF_NONE;
    repeat(&many, "<ListBucketResult>", OBJECT("a", "1"), 10001, "</ListBucketResult>");
    check_refused(XML_S3, (const char *)many.data, "too many");
    repeat(&large, "<ListBucketResult>", "<x/>    ", XML_BYTES_MAX / 8, "</ListBucketResult>");
    check_refused(XML_S3, (const char *)large.data, "well-formed");
}

/* --- one text --- */

static void check_text(const char *text, const char *path, const char *wanted)
{
    char out[16] = "unset";
    bool found = xml_text(span_of_text(text), path, out, sizeof out);
    assert_int_equal(found, wanted != NULL);
    assert_string_equal(out, wanted != NULL ? wanted : "");
}

static void the_text_of_one_element_is_found(void **state)
{
    (void)state;
    check_text("<Error xmlns=\"urn:x\"><Code>NoSuchKey</Code><Message>m</Message></Error>",
               "Error/Code", "NoSuchKey");
    check_text("<Error><Code>first</Code><Code>second</Code></Error>", "Error/Code", "first");
    check_text("<Error><Code/></Error>", "Error/Code", "");
    check_text("<Error><Detail><Code>inner</Code></Detail><Code>x</Code></Error>", "Error/Code",
               "x");
}

static void a_text_that_is_missing_or_too_long_is_none(void **state)
{
    (void)state;
    check_text("<Error><Message>m</Message></Error>", "Error/Code", NULL);
    check_text("<Fault><Code>x</Code></Fault>", "Error/Code", NULL);
    check_text("<Error><Code>123456789012345</Code></Error>", "Error/Code", "123456789012345");
    check_text("<Error><Code>1234567890123456</Code></Error>", "Error/Code", NULL);
    check_text("<html><body>Bad Gateway", "Error/Code", NULL);
    check_text("", "Error/Code", NULL);
}

/* A body is cut to a bound before it is read: what came before the cut still explains. */
static void a_text_before_the_end_of_a_cut_document_is_found(void **state)
{
    (void)state;
    struct buf text AUTO_BUF = BUF_NONE;
    repeat(&text, "<Error><Code>SlowDown</Code><Message>", "so much is said about it ", 1000, "");
    check_text((const char *)text.data, "Error/Code", "SlowDown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_page_of_s3_is_read),
        cmocka_unit_test(a_page_of_azure_is_read),
        cmocka_unit_test(an_empty_page_is_the_last),
        cmocka_unit_test(a_page_without_objects_may_go_on),
        cmocka_unit_test(a_marker_of_a_page_that_is_not_cut_short_does_not_count),
        cmocka_unit_test(a_page_that_goes_on_but_says_not_where_is_refused),
        cmocka_unit_test(namespaces_and_their_prefixes_do_not_matter),
        cmocka_unit_test(predefined_entities_and_references_are_read),
        cmocka_unit_test(cdata_is_text),
        cmocka_unit_test(elements_of_the_same_name_elsewhere_do_not_count),
        cmocka_unit_test(comments_and_instructions_are_passed_over),
        cmocka_unit_test(other_encodings_are_read_as_utf8),
        cmocka_unit_test(each_may_stop_the_list),
        cmocka_unit_test(documents_with_a_type_of_their_own_are_refused),
        cmocka_unit_test(a_billion_laughs_are_refused),
        cmocka_unit_test(an_entity_that_is_not_declared_is_refused),
        cmocka_unit_test(what_is_not_xml_or_ends_early_is_refused),
        cmocka_unit_test(a_document_of_another_kind_is_refused),
        cmocka_unit_test(an_object_without_name_or_size_is_refused),
        cmocka_unit_test(sizes_that_are_no_number_are_refused),
        cmocka_unit_test(a_name_longer_than_any_of_ours_is_passed_over),
        cmocka_unit_test(a_text_that_nobody_wants_may_be_long),
        cmocka_unit_test(markers_and_sizes_that_are_too_long_are_refused),
        cmocka_unit_test(what_nests_too_deep_is_refused),
        cmocka_unit_test(more_objects_or_bytes_than_a_page_has_are_refused),
        cmocka_unit_test(the_text_of_one_element_is_found),
        cmocka_unit_test(a_text_that_is_missing_or_too_long_is_none),
        cmocka_unit_test(a_text_before_the_end_of_a_cut_document_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
