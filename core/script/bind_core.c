#include "script/bind_core.h"

#include <fcntl.h>
#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/utf8.h"
#include "script/bind_bytes.h"
#include "script/bind_upload.h"
#include "script/snapshot.h"
#include "script/task.h"
#include "script/vm.h"
#include "script/web.h"

/* ---- omade.log ------------------------------------------------------------------- */

enum { FIELDS_MAX = 20 };

/* [top] the value, whose text stays there until the line is written. */
static struct log_field field_of(lua_State *L, const char *key)
{
    size_t n;
    const char *text;

    if (lua_isinteger(L, -1)) return log_int(key, lua_tointeger(L, -1));
    text = luaL_tolstring(L, -1, &n);
    lua_replace(L, -2);
    return log_slice(key, (struct slice){ text, n });
}

/* log.info(event [, {key = value}]) */
static int write_line(lua_State *L, enum log_level level)
{
    struct log_field fields[FIELDS_MAX + 2] = { { 0 } };
    struct task *task = task_current(L);
    const char *event = luaL_checkstring(L, 1);
    int n = 0;

    if (!log_wants(level)) return 0;
    lua_settop(L, 2);
    luaL_checkstack(L, 2 * FIELDS_MAX + 8, NULL);
    if (task != NULL) fields[n++] = log_text("request", task_request_id(task));
    if (lua_istable(L, 2)) {
        lua_pushnil(L);
        while (n < FIELDS_MAX && lua_next(L, 2)) {
            if (lua_type(L, -2) != LUA_TSTRING)
                return luaL_error(L, "log: the keys of the fields are strings");
            fields[n] = field_of(L, lua_tostring(L, -2));
            n++;
            lua_pushvalue(L, -2); /* the pair stays below; its key goes on */
        }
    }
    log_write(level, event, fields);
    return 0;
}

static int log_debug_line(lua_State *L) { return write_line(L, LOG_DEBUG); }
static int log_info_line(lua_State *L) { return write_line(L, LOG_INFO); }
static int log_warn_line(lua_State *L) { return write_line(L, LOG_WARN); }
static int log_error_line(lua_State *L) { return write_line(L, LOG_ERROR); }

int luaopen_omade_log(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "debug", log_debug_line },
        { "info", log_info_line },
        { "warn", log_warn_line },
        { "error", log_error_line },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}

/* ---- omade.uuid ------------------------------------------------------------------- */

static int uuid_v4(lua_State *L)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char b[16];
    char text[36], *p = text;

    if (getrandom(b, sizeof b, 0) != (ssize_t)sizeof b)
        return luaL_error(L, "no randomness");
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *p++ = '-';
        *p++ = hex[b[i] >> 4];
        *p++ = hex[b[i] & 15];
    }
    lua_pushlstring(L, text, sizeof text);
    return 1;
}

static bool is_uuid(struct slice s)
{
    if (s.n != 36) return false;
    for (size_t i = 0; i < 36; i++) {
        char c = s.p[i];
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;

        if (dash ? c != '-'
                 : !((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') ||
                     (c >= 'A' && c <= 'F')))
            return false;
    }
    return true;
}

/* uuid.valid(text) */
static int uuid_valid(lua_State *L)
{
    size_t n;
    const char *p = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &n) : NULL;

    lua_pushboolean(L, p != NULL && is_uuid((struct slice){ p, n }));
    return 1;
}

int luaopen_omade_uuid(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "v4", uuid_v4 },
        { "valid", uuid_valid },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    return 1;
}

/* ---- omade.core.engine --------------------------------------------------------------- */

static int engine_setting(lua_State *L)
{
    lua_pushstring(L, vm_setting(vm_of(L), luaL_checkstring(L, 1)));
    return 1;
}

static int engine_development(lua_State *L)
{
    lua_pushboolean(L, vm_of(L)->env->development);
    return 1;
}

static int engine_draining(lua_State *L)
{
    lua_pushboolean(L, vm_of(L)->env->draining);
    return 1;
}

/* Why the scripts on the disk do not load, or nil. */
static int engine_fault(lua_State *L)
{
    lua_pushstring(L, vm_of(L)->env->fault);
    return 1;
}

/* Tasks under way: {name, request, waits_for, ms}. */
static int engine_tasks(lua_State *L)
{
    struct vm *vm = vm_of(L);
    int at = 0;

    lua_newtable(L);
    for (struct list_node *n = vm->tasks.first; n != NULL && at < 200; n = n->next) {
        struct task *task = task_of_node(n);

        lua_createtable(L, 0, 4);
        lua_pushstring(L, task_name(task));
        lua_setfield(L, -2, "name");
        lua_pushstring(L, task_request_id(task));
        lua_setfield(L, -2, "request");
        lua_pushstring(L, task_waits_for(task));
        lua_setfield(L, -2, "waits_for");
        lua_pushinteger(L, task_age_ms(task));
        lua_setfield(L, -2, "ms");
        task_push_traceback(L, task);
        lua_setfield(L, -2, "traceback");
        lua_rawseti(L, -2, ++at);
    }
    return 1;
}

/* Bytes of this generation's heap. */
static int engine_memory(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)vm_memory(vm_of(L)));
    return 1;
}

static int engine_generation(lua_State *L)
{
    lua_pushinteger(L, (lua_Integer)vm_of(L)->generation);
    return 1;
}

/* The metatables that C knows: engine.answer(table), engine.fail(table) */
static int mark_as(lua_State *L, const char *type)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    luaL_setmetatable(L, type);
    return 1;
}

static int engine_answer(lua_State *L) { return mark_as(L, "omade.answer"); }

/* engine.is_answer(value) */
static int engine_is_answer(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (lua_istable(L, 1) && lua_getmetatable(L, 1)) {
        luaL_getmetatable(L, "omade.answer");
        lua_pushboolean(L, lua_rawequal(L, -1, -2));
    } else lua_pushboolean(L, 0);
    return 1;
}

static int engine_fail(lua_State *L) { return mark_as(L, "omade.fail"); }

/* engine.text_length(text): code points, or nil when it is not UTF-8 or holds a NUL */
static int engine_text_length(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);

    if (memchr(p, '\0', n) != NULL || !utf8_valid(p, n)) lua_pushnil(L);
    else lua_pushinteger(L, (lua_Integer)utf8_length(p, n));
    return 1;
}

/* engine.file(path): the text of a file of the app folder, or nil */
static int engine_file(lua_State *L)
{
    struct snapshot *snapshot = vm_of(L)->snapshot;
    size_t n;
    const char *path = luaL_checklstring(L, 1, &n);
    struct slice text;

    if (snapshot == NULL || !snapshot_file(snapshot, (struct slice){ path, n }, &text))
        lua_pushnil(L);
    else lua_pushlstring(L, text.p, text.n);
    return 1;
}

enum { SETTING_FILE_MAX = 1 << 20 };

/* engine.setting_file(name): the text of the file that a setting names, from the home
 * folder or absolute; while scripts load only. */
static int engine_setting_file(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *name = luaL_checkstring(L, 1), *path = vm_setting(vm, name);
    luaL_Buffer b;
    char *room;
    size_t n;
    FILE *f;

    if (!vm->loading) return luaL_error(L, "settings are read while scripts load");
    if (path == NULL) return luaL_error(L, "%s is not set", name);
    if (*path != '/') path = lua_pushfstring(L, "%s/%s", vm->env->home, path);
    room = luaL_buffinitsize(L, &b, SETTING_FILE_MAX);
    f = fopen(path, "re");
    if (f == NULL) return luaL_error(L, "%s: cannot read %s", name, path);
    n = fread(room, 1, SETTING_FILE_MAX, f);
    bool whole = !ferror(f) && n < SETTING_FILE_MAX;
    fclose(f);
    if (!whole) return luaL_error(L, "%s: cannot read %s whole", name, path);
    luaL_pushresultsize(&b, n);
    return 1;
}

/* All of it, or nothing. */
static bool append_whole(int fd, const char *p, size_t n)
{
    off_t before = lseek(fd, 0, SEEK_END);
    ssize_t written = write(fd, p, n);

    if (written == (ssize_t)n) return true;
    if (written > 0 && ftruncate(fd, before) != 0)
        log_warn("a file ends with a torn line", log_int("written", written));
    return false;
}

/* engine.append_to_setting_file(name, line): adds a line to the file that a setting
 * names, from the home folder or absolute. */
static int engine_append_to_setting_file(lua_State *L)
{
    struct vm *vm = vm_of(L);
    const char *name = luaL_checkstring(L, 1), *path = vm_setting(vm, name);
    const char *line;
    size_t n;
    int fd;
    bool ok;

    luaL_checkstring(L, 2);
    if (path == NULL) return luaL_error(L, "%s is not set", name);
    if (*path != '/') path = lua_pushfstring(L, "%s/%s", vm->env->home, path);
    lua_pushvalue(L, 2);
    lua_pushliteral(L, "\n");
    lua_concat(L, 2);
    line = lua_tolstring(L, -1, &n);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    ok = fd >= 0 && append_whole(fd, line, n);
    if (fd >= 0) close(fd);
    if (!ok) return luaL_error(L, "%s: cannot write to %s", name, path);
    return 0;
}

/* engine.json(text): JSON bytes, spliced as they are */
static int engine_json(lua_State *L)
{
    size_t n;
    const char *text = luaL_checklstring(L, 1, &n);
    struct bytes *bytes = bytes_push_empty(L);
    char *copy = mem_copy_text(text, n);

    if (copy == NULL) return luaL_error(L, "not enough memory");
    *bytes = (struct bytes){ { copy, n }, mem_free, copy, true };
    return 1;
}

/* engine.json_kind(bytes): "object", "array" or "other"; nil for what is not JSON */
static int engine_json_kind(lua_State *L)
{
    const struct bytes *bytes = bytes_test(L, 1);

    luaL_argexpected(L, bytes != NULL, 1, "bytes");
    if (!json_is_text(bytes->s)) lua_pushnil(L);
    else if (*bytes->s.p == '{') lua_pushliteral(L, "object");
    else if (*bytes->s.p == '[') lua_pushliteral(L, "array");
    else lua_pushliteral(L, "other");
    return 1;
}

/* engine.metrics(): all workers' figures as Prometheus reads them */
static int engine_metrics(lua_State *L)
{
    struct script_env *env = vm_of(L)->env;
    struct buf *out = &env->scratch;

    if (env->all_metrics == NULL) return luaL_error(L, "nobody counts here");
    buf_clear(out);
    metrics_text(env->all_metrics, env->workers, out);
    if (out->failed) return luaL_error(L, "not enough memory");
    lua_pushlstring(L, out->p, out->n);
    buf_clear(out);
    return 1;
}

/* engine.home(): the folder that holds lua/, migrations/, build/ */
static int engine_home(lua_State *L)
{
    lua_pushstring(L, vm_of(L)->env->home);
    return 1;
}

/* engine.app(): the app's folder, for files beside the scripts */
static int engine_app(lua_State *L)
{
    lua_pushstring(L, vm_of(L)->env->app);
    return 1;
}

/* engine.upload_dir(): the folder for uploads */
static int engine_upload_dir(lua_State *L)
{
    lua_pushstring(L, vm_of(L)->env->upload_dir);
    return 1;
}

static int engine_trim(lua_State *L)
{
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n);

    while (n > 0 && (unsigned char)*p <= ' ') p++, n--;
    while (n > 0 && (unsigned char)p[n - 1] <= ' ') n--;
    lua_pushlstring(L, p, n);
    return 1;
}

int luaopen_omade_engine(lua_State *L)
{
    static const luaL_Reg functions[] = {
        { "setting", engine_setting },
        { "development", engine_development },
        { "draining", engine_draining },
        { "fault", engine_fault },
        { "tasks", engine_tasks },
        { "memory", engine_memory },
        { "generation", engine_generation },
        { "answer", engine_answer },
        { "is_answer", engine_is_answer },
        { "fail", engine_fail },
        { "text_length", engine_text_length },
        { "json", engine_json },
        { "json_kind", engine_json_kind },
        { "app", engine_app },
        { "home", engine_home },
        { "metrics", engine_metrics },
        { "trim", engine_trim },
        { "file", engine_file },
        { "setting_file", engine_setting_file },
        { "append_to_setting_file", engine_append_to_setting_file },
        { "upload_dir", engine_upload_dir },
        { "upload_parts", uploads_parts },
        { "upload_keep", uploads_keep },
        { "upload_drop", uploads_drop },
        { NULL, NULL },
    };

    luaL_newlib(L, functions);
    lua_getfield(L, LUA_REGISTRYINDEX, "omade.stream_begin");
    lua_setfield(L, -2, "stream_begin");
    return 1;
}
