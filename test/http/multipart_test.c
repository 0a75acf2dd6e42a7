/* multipart/form-data, whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/buf.h"
#include "base/check.h"
#include "base/mem.h"
#include "http/message.h"

enum { PARTS = 3 };

static void add_or_dash(struct buf *out, struct slice s)
{
    if (s.p == NULL) BUF_ADD(out, "-");
    buf_add_slice(out, s);
    BUF_ADD(out, ",");
}

/* Splits a copy of exactly the body's size, so that reading past its end is seen, and
 * writes "name,filename,type,body|" for each part. */
static int split(struct slice type, struct slice body, struct buf *out)
{
    char *copy = malloc(body.n == 0 ? 1 : body.n);
    struct form_part parts[PARTS];
    int count;

    assert_non_null(copy);
    if (body.n > 0) memcpy(copy, body.p, body.n);
    count = multipart_split(type, (struct slice){ copy, body.n }, parts, PARTS);
    for (int i = 0; i < count; i++) {
        add_or_dash(out, parts[i].name);
        add_or_dash(out, parts[i].filename);
        add_or_dash(out, parts[i].content_type);
        buf_add_slice(out, parts[i].body);
        BUF_ADD(out, "|");
    }
    buf_add_byte(out, '\0');
    free(copy);
    return count;
}

static void assert_split(struct slice type, struct slice body, int count,
                         const char *parts)
{
    struct buf out = { 0 };

    assert_int_equal(split(type, body, &out), count);
    assert_string_equal(out.p, parts);
    buf_free(&out);
}

#define TYPE SLICE("multipart/form-data; boundary=XyZ")
#define NAME(name) "Content-Disposition: form-data; name=\"" name "\"\r\n"
#define END "\r\n--XyZ--\r\n"

static const struct {
    struct slice body;
    int count;
    const char *parts;
} bodies[] = {
    { SLICE("--XyZ--\r\n"), 0, "" },
    { SLICE("--XyZ--"), 0, "" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1" END), 1, "a,-,-,1|" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n" END), 1, "a,-,-,|" },
    { SLICE("--XyZ \t\r\n" NAME("a") "\r\n1" END), 1, "a,-,-,1|" },
    { SLICE("--XyZ x\r\n" NAME("a") "\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("") "\r\n1" END), 1, ",-,-,1|" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1\r\n--XyZ\r\n" NAME("b") "\r\n2\r\n" END), 2,
      "a,-,-,1|b,-,-,2\r\n|" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1\r\n--XyZ\r\n" NAME(
          "a") "\r\n2\r\n--XyZ\r\n" NAME("c") "\r\n3" END),
      3, "a,-,-,1|a,-,-,2|c,-,-,3|" },
    { SLICE(
          "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a;b.txt\"\r\n"
          "Content-Type: text/plain; x=y\r\n\r\nhi" END),
      1, "f,a;b.txt,text/plain; x=y,hi|" },
    { SLICE("--XyZ\r\nX-Other: 1\r\ncontent-type:image/png\r\n"
            "CONTENT-DISPOSITION:Form-Data;NAME=f;FileName=\"\"\r\n\r\n\r\n" END),
      1, "f,,image/png,\r\n|" },
    { SLICE("--XyZ\r\nContent-Disposition: form-data; filename=\"name=x\"; name=\"f\"\r\n"
            "\r\n1" END),
      1, "f,name=x,-,1|" },
    { SLICE("--XyZ\r\n" NAME("caf\xc3\xa9") "\r\n\xff\n" END), 1,
      "caf\xc3\xa9,-,-,\xff\n|" },
    /* what looks like a boundary, but is none */
    { SLICE("--XyZ\r\n" NAME("a") "\r\n--XyZ\r\n--Xy\n--XyZ" END), 1,
      "a,-,-,--XyZ\r\n--Xy\n--XyZ|" },
    /* before the first boundary and behind the last one is nothing of interest */
    { SLICE("preamble\r\n--XyZ\r\n" NAME("a") "\r\n1" END "epilogue\r\n--XyZ"), 1,
      "a,-,-,1|" },
    { SLICE("\r\n--XyZ\r\n" NAME("a") "\r\n1" END), 1, "a,-,-,1|" },
    /* malformed */
    { SLICE(""), -1, "" },
    { SLICE("--"), -1, "" },
    { SLICE("--XyZ"), -1, "" },
    { SLICE("--XyZ-"), -1, "" },
    { SLICE("--XyZ\r\n"), -1, "" },
    { SLICE("--xyz--\r\n"), -1, "" },
    { SLICE("x--XyZ--\r\n"), -1, "" },
    { SLICE("--XyZ\n" NAME("a") "\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a")), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n"), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1"), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1\r\n--XyZ"), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "\r\n1\r\n--XyZ!" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "1" END), -1, "" },
    { SLICE("--XyZ\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\nContent-Type: text/plain\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\nContent-Disposition: form-data\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\nContent-Disposition: attachment; name=a\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\nContent-Disposition: form-datax; name=a\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") NAME("b") "\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a") "no colon\r\n\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a\0b") "\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("a\nb") "\r\n1" END), -1, "" },
    { SLICE("--XyZ\r\n" NAME("\xff") "\r\n1" END), -1, "" },
    /* more parts than there is room for */
    { SLICE("--XyZ\r\n" NAME("a") "\r\n\r\n--XyZ\r\n" NAME("b") "\r\n\r\n--XyZ\r\n" NAME(
          "c") "\r\n\r\n--XyZ\r\n" NAME("d") "\r\n" END),
      -1, "" },
};

static void splits(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT_OF(bodies); i++)
        assert_split(TYPE, bodies[i].body, bodies[i].count, bodies[i].parts);
    assert_int_equal(mem_live(), 0);
}

/* A body that was cut off is never a whole one. */
static void prefixes(void **state)
{
    static const struct slice body =
        SLICE("--XyZ\r\n" NAME("a") "Content-Type: text/plain\r\n\r\n1\r\n--XyZ\r\n" NAME(
            "b") "\r\n--X\r\n--XyZ--");

    (void)state;
    assert_split(TYPE, body, 2, "a,-,text/plain,1|b,-,-,--X|");
    for (size_t n = 0; n < body.n; n++)
        assert_split(TYPE, (struct slice){ body.p, n }, -1, "");
}

static void boundaries(void **state)
{
    static const struct slice body = SLICE("--XyZ--\r\n");
    char type[200] = "multipart/form-data; boundary=", text[200] = "--";

    (void)state;
    assert_split(SLICE("multipart/form-data; boundary=\"XyZ\""), body, 0, "");
    assert_split(SLICE("multipart/form-data;BOUNDARY = XyZ ; x=y"), body, 0, "");
    assert_split(SLICE("multipart/form-data; x=\"; boundary=A\"; boundary=XyZ"), body, 0,
                 "");
    assert_split(SLICE("multipart/form-data; x=\"\\\"; boundary=A\"; boundary=XyZ"), body,
                 0, "");
    assert_split(SLICE("multipart/form-data"), body, -1, "");
    assert_split(SLICE("multipart/form-data; boundary"), body, -1, "");
    assert_split(SLICE("multipart/form-data; boundary="), body, -1, "");
    assert_split(SLICE("multipart/form-data; boundary=\"\""), body, -1, "");
    assert_split(SLICE("multipart/form-data; xboundary=XyZ"), body, -1, "");
    assert_split((struct slice){ NULL, 0 }, body, -1, "");
    for (size_t n = 69; n <= 71; n++) { /* RFC 2046 ends them at 70 */
        memset(type + 30, 'b', n);
        memset(text + 2, 'b', n);
        memcpy(text + 2 + n, "--", 3);
        assert_split((struct slice){ type, 30 + n }, slice_of(text), n > 70 ? -1 : 0, "");
    }
    assert_int_equal(mem_live(), 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(splits),
        cmocka_unit_test(prefixes),
        cmocka_unit_test(boundaries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
