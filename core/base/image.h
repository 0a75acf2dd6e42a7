/* image.h -- what an image file is, by its bytes: kind and dimensions.
 *
 * Pure: reads the head of the bytes and believes no name and no media type.  It does not
 * decode; who accepts what it says still serves the bytes as that type with nosniff.
 */
#ifndef BASE_IMAGE_H
#define BASE_IMAGE_H

#include <stdint.h>

#include "base/check.h"
#include "base/slice.h"

enum image_kind { IMAGE_NONE, IMAGE_JPEG, IMAGE_PNG, IMAGE_WEBP };

struct image {
    enum image_kind kind; /* IMAGE_NONE: none of these, or its head is cut or malformed */
    uint32_t width, height; /* above 0 */
};

MUST_CHECK struct image image_of(struct slice bytes);

#endif
