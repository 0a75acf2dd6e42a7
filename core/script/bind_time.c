#include "script/bind_time.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/mem.h"
#include "script/task.h"
#include "script/vm.h"

/* ---- pauses ------------------------------------------------------------------- */

/* Freed by uv's close callback; the task may be gone by then. */
struct pause {
    uv_timer_t timer;
    struct task *task;
    uint32_t ticket;
};

static void pause_closed(uv_handle_t *handle) { mem_free(handle->data); }

static void pause_end(void *ctx)
{
    struct pause *pause = ctx;

    uv_close((uv_handle_t *)&pause->timer, pause_closed);
}

static void on_timer(uv_timer_t *timer)
{
    struct pause *pause = timer->data;

    task_wake(pause->task, pause->ticket);
    pause_end(pause);
}

int time_pause(lua_State *L, const char *name, int64_t ms, lua_KContext ctx,
               lua_KFunction finish)
{
    struct task *task = task_may_wait(L, name);
    struct pause *pause = mem_get_clear(sizeof *pause);

    if (pause == NULL) return luaL_error(L, "not enough memory");
    if (uv_timer_init(vm_env(task_vm(task))->loop, &pause->timer) != 0) {
        mem_free(pause);
        return luaL_error(L, "%s: no timer", name);
    }
    pause->timer.data = pause;
    pause->task = task;
    pause->ticket = task_await(task, name, pause_end, pause);
    uv_update_time(vm_env(task_vm(task))->loop);
    uv_timer_start(&pause->timer, on_timer, (uint64_t)(ms < 0 ? 0 : ms), 0);
    return lua_yieldk(L, 0, ctx, finish);
}

int64_t time_jitter(int64_t ms) { return ms <= 0 ? 0 : random() % (ms + 1); }

static int sleep_finish(lua_State *L, int status, lua_KContext ctx)
{
    (void)status;
    (void)ctx;
    task_resumed(L);
    return 0;
}

int time_sleep(lua_State *L)
{
    double seconds = luaL_checknumber(L, 1);

    luaL_argcheck(L, seconds >= 0 && seconds <= 86400, 1, "0 to 86,400 seconds");
    return time_pause(L, "sleep", (int64_t)(seconds * 1000), 0, sleep_finish);
}

/* ---- the module ----------------------------------------------------------------- */

/* time.now(): seconds since 1970 with microseconds, of the wall clock. */
static int time_now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)clock_wall_us() / 1e6);
    return 1;
}

/* time.monotonic(): seconds; only differences mean something. */
static int time_monotonic(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)clock_ns() / 1e9);
    return 1;
}

/* Years have four digits. */
#define YEAR_0 (-62167219200.0)
#define YEAR_10000 253402300800.0

/* time.iso([seconds]): "2026-01-15T10:30:00.123Z" */
static int time_iso(lua_State *L)
{
    char text[CLOCK_ISO_MAX];
    double seconds = luaL_optnumber(L, 1, NAN);
    bool fits = isnan(seconds) || (seconds >= YEAR_0 && seconds < YEAR_10000 - 0.0005);
    int64_t us;

    luaL_argcheck(L, fits, 1, "out of range");
    us = isnan(seconds) ? clock_wall_us() : (int64_t)llround(seconds * 1e6);
    lua_pushlstring(L, text, clock_iso(us, text));
    return 1;
}

/* Digits at p; -1 if there is another character. */
static int digits(const char *p, int n)
{
    int value = 0;

    for (int i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9') return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

static int days_of_month(int year, int month)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

    return days[month - 1] + (month == 2 && leap);
}

/* "2026-01-15"; false when there is no such day. */
static bool read_date(const char *p, struct tm *tm)
{
    int year = digits(p, 4), month = digits(p + 5, 2), day = digits(p + 8, 2);

    if (p[4] != '-' || p[7] != '-' || year < 1 || month < 1 || month > 12 || day < 1)
        return false;
    if (day > days_of_month(year, month)) return false;
    *tm = (struct tm){ .tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day };
    return true;
}

/* RFC 3339: the fraction and the offset behind the seconds. */
static bool read_rest(const char *p, double *fraction, int *offset_minutes)
{
    double unit = 0.1;

    *fraction = 0;
    if (*p == '.') {
        if (digits(++p, 1) < 0) return false;
        for (; *p >= '0' && *p <= '9'; p++, unit /= 10) *fraction += (*p - '0') * unit;
    }
    *offset_minutes = 0;
    if ((*p == 'Z' || *p == 'z') && p[1] == '\0') return true;
    if ((*p != '+' && *p != '-') || strlen(p) != 6 || p[3] != ':') return false;
    int hours = digits(p + 1, 2), minutes = digits(p + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59) return false;
    *offset_minutes = (hours * 60 + minutes) * (*p == '-' ? -1 : 1);
    return true;
}

/* time.parse(text): seconds since 1970 of an RFC 3339 time or a date; nil if malformed. */
static int time_parse(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);
    int hour, minute, second, offset = 0;
    double fraction = 0;
    struct tm tm;

    lua_settop(L, 1);
    lua_pushnil(L);
    if (strlen(p) != n || n < 10 || !read_date(p, &tm)) return 1;
    if (n > 10) {
        if (n < 20 || n > 40 || (p[10] != 'T' && p[10] != 't' && p[10] != ' ')) return 1;
        hour = digits(p + 11, 2);
        minute = digits(p + 14, 2);
        second = digits(p + 17, 2);
        if (p[13] != ':' || p[16] != ':' || hour < 0 || hour > 23 || minute < 0 ||
            minute > 59 || second < 0 || second > 60 ||
            !read_rest(p + 19, &fraction, &offset))
            return 1;
        tm.tm_hour = hour;
        tm.tm_min = minute;
        tm.tm_sec = second;
    }
    lua_pushnumber(L, (lua_Number)timegm(&tm) - offset * 60 + fraction);
    return 1;
}

/* time.date([seconds]): "2026-01-15", UTC */
static int time_date(lua_State *L)
{
    char text[CLOCK_ISO_MAX];
    double seconds = luaL_optnumber(L, 1, (lua_Number)clock_wall_us() / 1e6);

    luaL_argcheck(L, seconds >= YEAR_0 && seconds < YEAR_10000, 1, "out of range");
    clock_iso((int64_t)floor(seconds) * 1000000, text);
    lua_pushlstring(L, text, 10);
    return 1;
}

int luaopen_omade_time(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "now", time_now },     { "monotonic", time_monotonic }, { "iso", time_iso },
        { "parse", time_parse }, { "date", time_date },           { "sleep", time_sleep },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}
