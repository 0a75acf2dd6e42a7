/* Images by their bytes, and files that are kept whole or not at all. */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/image.h"
#include "base/keep.h"

/* ---- images -------------------------------------------------------------------------- */

#define PNG "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\2\0\0\0\7\x08\6\0\0\0....."
#define JPEG                                                                             \
    "\xff\xd8\xff\xe0\0\4ab\xff\xff\xc4\0\3x\xff\xc2\0\x11\x08\0\7\1\2\3..............."
#define LOSSY "RIFF....WEBPVP8 ....\1\2\3\x9d\x01\x2a\2\1\7\0...."
#define LOSSLESS "RIFF....WEBPVP8L....\x2f\1\x81\1\0............"
#define EXTENDED "RIFF....WEBPVP8X....\0\0\0\0\1\1\0\6\0\0......"
#define IS(kind, text) check(kind, SLICE(text))

/* 258 x 7, whole; cut anywhere before 'needed' bytes, it is none. */
static void check(enum image_kind kind, struct slice bytes)
{
    struct image image = image_of(bytes);
    bool was_one = false;

    assert_int_equal(image.kind, kind);
    if (kind != IMAGE_NONE) {
        assert_int_equal(image.width, 258);
        assert_int_equal(image.height, 7);
    }
    for (size_t n = 0; n <= bytes.n; n++) {
        char *copy = malloc(n + 1); /* of exactly that size: ASan sees a step beyond */
        struct slice cut = { copy, n };

        assert_non_null(copy);
        memcpy(copy, bytes.p, n);
        cut.p = copy;
        bool is_one = image_of(cut).kind != IMAGE_NONE;
        assert_true(is_one || !was_one);
        was_one = is_one;
        free(copy);
    }
}

static void each_kind_with_its_size(void **state)
{
    (void)state;
    IS(IMAGE_PNG, PNG);
    IS(IMAGE_JPEG, JPEG);
    IS(IMAGE_WEBP, LOSSY);
    IS(IMAGE_WEBP, EXTENDED);
    IS(IMAGE_NONE, "");
    IS(IMAGE_NONE,
       "<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>");
    IS(IMAGE_NONE, "GIF89a......................................");
    IS(IMAGE_NONE, "\xff\xd8\xff\xda\0\4ab............................");
    IS(IMAGE_NONE, "\xff\xd8\xff\xe0\0\1ab............................");
    IS(IMAGE_NONE, "RIFF....WAVEfmt ..............................");
    IS(IMAGE_NONE, "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\0\0\0\0\7\x08\6\0\0\0.....");
}

static void a_lossless_size_is_in_bits(void **state)
{
    struct image image =
        image_of(SLICE(LOSSLESS)); /* width - 1 is 0x101, height - 1 is 6 */

    (void)state;
    assert_int_equal(image.kind, IMAGE_WEBP);
    assert_int_equal(image.width, 258);
    assert_int_equal(image.height, 7);
}

/* ---- files ----------------------------------------------------------------------------- */

static void a_file_is_kept_whole_or_not_at_all(void **state)
{
    char folder[] = "/tmp/omade-keep-XXXXXX", path[64], part[80];
    char *big = calloc(1, 100000);
    struct rlimit before, small;

    (void)state;
    assert_non_null(big);
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/a", folder);
    snprintf(part, sizeof part, "%s.part", path);
    assert_int_equal(keep_file(path, SLICE("abc")), 0);
    assert_int_equal(keep_file(path, SLICE("other")), EEXIST);
    assert_int_equal(access(part, F_OK), -1);
    assert_int_equal(unlink(path), 0);

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 50000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(keep_file(path, (struct slice){ big, 100000 }), EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(rmdir(folder), 0); /* nothing is left */
    assert_int_equal(keep_file("/no/such/folder/a", SLICE("abc")), ENOENT);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_kind_with_its_size),
        cmocka_unit_test(a_lossless_size_is_in_bits),
        cmocka_unit_test(a_file_is_kept_whole_or_not_at_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
