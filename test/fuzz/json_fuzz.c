/* Any bytes: read, and if that went well, written and read again to the same bytes. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "commerce/money.h"
#include "script/bind_json.h"
#include "script/json_read.h"
#include "script/json_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool holds)
{
    if (!holds) abort();
}

/* Pushes nothing, or the value. */
static bool read_text(lua_State *L, struct slice text, const struct json_limits *limits)
{
    struct json_fault fault = { 0 };
    int top = lua_gettop(L);
    bool read = json_read(L, text, limits, &fault);

    require(lua_gettop(L) == top + (read ? 1 : 0));
    if (read) return true;
    require(fault.message[0] != '\0' && fault.offset <= text.n);
    require(fault.line >= 1 && fault.column >= 1);
    return false;
}

/* Replaces the value on top by its text. */
static void write_text(lua_State *L, struct buf *out)
{
    const char *fault = NULL;

    require(json_write(L, -1, out, &fault));
    lua_pop(L, 1);
}

static void there_and_back(lua_State *L, struct slice text,
                           const struct json_limits *limits)
{
    struct buf once = { 0 }, twice = { 0 };

    if (!read_text(L, text, limits)) return;
    require(utf8_valid(text.p, text.n));
    write_text(L, &once);
    require(read_text(L, buf_slice(&once), limits));
    write_text(L, &twice);
    require(slice_equal(buf_slice(&once), buf_slice(&twice)));
    buf_free(&once);
    buf_free(&twice);
}

/* An amount that is read and written is the same amount. */
static void amounts(struct slice text)
{
    char again[MONEY_TEXT_MAX];
    money a = { 0 }, b = { 0 };

    if (money_parse(text.p, text.n, &a) != MONEY_OK) return;
    require(money_parse(again, money_text(a, again), &b) == MONEY_OK);
    require(a.cents == b.cents);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = { (const char *)data, size };
    struct json_limits floats = json_body_limits;
    lua_State *L = luaL_newstate();

    require(L != NULL);
    floats.floats = true;
    there_and_back(L, text, &json_body_limits);
    there_and_back(L, text, &floats);
    amounts(text);
    lua_close(L);
    require(mem_live() == 0);
    return 0;
}
