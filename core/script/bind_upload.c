#include "script/bind_upload.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/image.h"
#include "base/keep.h"
#include "base/mem.h"
#include "script/fail.h"
#include "script/form_fields.h"
#include "script/task.h"
#include "script/vm.h"
#include "script/web.h"

#define FORM_TYPE "omade.form"

enum { PARTS_MAX = 100, TYPE_MAX = 300, TEXT_MAX = 1024 * 1024 };

/* A mapped body and its parts.  It outlives its userdata while a thread works on it. */
struct form {
    uv_work_t work;
    struct task *task; /* NULL: nobody waits */
    uint32_t ticket;
    bool busy, left; /* left: Lua has no use for it any more */

    void *map;
    size_t size;
    char type[TYPE_MAX]; /* Content-Type */
    size_t type_n;
    int count; /* of parts; -1: malformed */
    struct form_part parts[PARTS_MAX];
    struct image images[PARTS_MAX]; /* of the parts that are files */

    struct slice keep; /* uploads_keep: these bytes under that name */
    char path[PATH_MAX];
    int error;
};

static void form_free(struct form *form)
{
    if (form->map != NULL) munmap(form->map, form->size);
    mem_free(form);
}

static int form_gc(lua_State *L)
{
    struct form **holder = lua_touserdata(L, 1), *form = *holder;

    *holder = NULL;
    if (form == NULL) return 0;
    form->task = NULL;
    form->left = true;
    if (!form->busy) form_free(form);
    return 0;
}

static struct form **form_push(lua_State *L)
{
    struct form **holder = lua_newuserdatauv(L, sizeof *holder, 0);

    *holder = NULL;
    if (luaL_newmetatable(L, FORM_TYPE)) {
        lua_pushcfunction(L, form_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    *holder = mem_get_clear(sizeof **holder);
    if (*holder == NULL) luaL_error(L, "not enough memory");
    return holder;
}

/* ---- in a thread ---------------------------------------------------------------------- */

static void split(uv_work_t *work)
{
    struct form *form = work->data;
    struct slice type = { form->type, form->type_n }, body = { form->map, form->size };

    form->count = multipart_split(type, body, form->parts, PARTS_MAX);
    for (int i = 0; i < form->count; i++)
        if (form->parts[i].filename.p != NULL)
            form->images[i] = image_of(form->parts[i].body);
}

static void keep(uv_work_t *work)
{
    struct form *form = work->data;

    form->error = keep_file(form->path, form->keep);
}

/* ---- the wait --------------------------------------------------------------------------- */

static void work_done(uv_work_t *work, int status)
{
    struct form *form = work->data;

    (void)status; /* never cancelled */
    form->busy = false;
    if (form->task != NULL) task_wake(form->task, form->ticket);
    form->task = NULL;
    if (form->left) form_free(form);
}

static void form_cancel(void *ctx) { ((struct form *)ctx)->task = NULL; }

static int start(lua_State *L, struct task *task, struct form *form, const char *name,
                 uv_work_cb run, lua_KFunction finish)
{
    form->work.data = form;
    if (uv_queue_work(vm_of(L)->env->loop, &form->work, run, work_done) != 0)
        return luaL_error(L, "not enough memory");
    form->busy = true;
    form->task = task;
    form->ticket = task_await(task, name, form_cancel, form);
    return lua_yieldk(L, 0, (lua_KContext)form, finish);
}

static int refuse(lua_State *L, int status, const char *message)
{
    fail_push(L, status, fail_code(status), message, NULL);
    return lua_error(L);
}

/* ---- parts -------------------------------------------------------------------------------- */

static void set_text(lua_State *L, const char *name, struct slice text)
{
    lua_pushlstring(L, text.p, text.n);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, lua_Integer number)
{
    lua_pushinteger(L, number);
    lua_setfield(L, -2, name);
}

static void push_part(lua_State *L, struct form *form, int i)
{
    static const char *const kinds[] = { NULL, "jpeg", "png", "webp" };
    struct form_part *part = &form->parts[i];
    struct image *image = &form->images[i];

    lua_createtable(L, 0, 7);
    set_text(L, "name", part->name);
    if (part->filename.p == NULL) {
        set_text(L, "text", part->body);
        return;
    }
    set_text(L, "filename", part->filename);
    set_number(L, "size", (lua_Integer)part->body.n);
    set_number(L, "at", i + 1);
    if (image->kind == IMAGE_NONE) return;
    lua_pushstring(L, kinds[image->kind]);
    lua_setfield(L, -2, "kind");
    set_number(L, "width", image->width);
    set_number(L, "height", image->height);
}

/* [1] req [2] the form's userdata */
static int parts_finish(lua_State *L, int status, lua_KContext ctx)
{
    struct form *form = (struct form *)ctx;
    size_t text = 0;

    (void)status;
    task_resumed(L);
    if (form->count < 0) return refuse(L, 400, "The multipart body is malformed");
    for (int i = 0; i < form->count; i++)
        if (form->parts[i].filename.p == NULL) text += form->parts[i].body.n;
    if (text > TEXT_MAX) return refuse(L, 413, "The form's fields are too large");
    form_fields_check(L, form->parts, form->count);
    lua_settop(L, 2);
    lua_createtable(L, form->count + 1, 0);
    lua_insert(L, 2);
    lua_rawseti(L, 2, 1);
    for (int i = 0; i < form->count; i++) {
        push_part(L, form, i);
        lua_rawseti(L, 2, i + 2);
    }
    return 1;
}

/* The body as memory; an empty one cannot be mapped, and has no parts. */
static bool map_body(struct form *form, const struct request *r)
{
    if (r->body_bytes == 0) return true;
    form->size = (size_t)r->body_bytes;
    form->map = mmap(NULL, form->size, PROT_READ, MAP_PRIVATE, r->body_fd, 0);
    if (form->map == MAP_FAILED) form->map = NULL;
    return form->map != NULL;
}

int uploads_parts(lua_State *L)
{
    struct exchange *x = web_request_check(L, 1);
    struct task *task = task_may_wait(L, "uploads.receive");
    struct slice type = request_header(x->request, SLICE("Content-Type"));
    struct form *form;

    if (x->request->body_fd < 0) {
        lua_pushnil(L);
        return 1;
    }
    if (type.n >= TYPE_MAX) return refuse(L, 400, "The multipart body is malformed");
    lua_settop(L, 1);
    form = *form_push(L);
    memcpy(form->type, type.p, type.n);
    form->type_n = type.n;
    if (!map_body(form, x->request)) return luaL_error(L, "not enough memory");
    return start(L, task, form, "uploads.receive", split, parts_finish);
}

/* ---- one file ------------------------------------------------------------------------------ */

static int keep_finish(lua_State *L, int status, lua_KContext ctx)
{
    int error = ((struct form *)ctx)->error;

    (void)status;
    task_resumed(L);
    if (error == ENOSPC || error == EDQUOT || error == EFBIG)
        return refuse(L, 507, "There is no room to store the upload");
    if (error != 0)
        return luaL_error(L, "the upload cannot be kept: %s", strerror(error));
    return 0;
}

int uploads_keep(lua_State *L)
{
    struct form *form = *(struct form **)luaL_checkudata(L, 1, FORM_TYPE);
    lua_Integer at = luaL_checkinteger(L, 2);
    size_t n;
    const char *path = luaL_checklstring(L, 3, &n);
    struct task *task = task_may_wait(L, "uploads.keep");

    luaL_argcheck(L, at >= 1 && at <= form->count, 2, "no such part");
    luaL_argcheck(L, n < sizeof form->path && strlen(path) == n, 3, "path");
    if (form->busy) return luaL_error(L, "uploads.keep: one file at a time");
    memcpy(form->path, path, n + 1);
    form->keep = form->parts[at - 1].body;
    return start(L, task, form, "uploads.keep", keep, keep_finish);
}

int uploads_drop(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);

    if (unlink(path) == 0 || errno == ENOENT) return 0;
    return luaL_error(L, "%s: %s", path, strerror(errno));
}
