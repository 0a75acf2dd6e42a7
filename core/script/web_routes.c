#include "script/web.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/metrics.h"

/* ---- one route -------------------------------------------------------------------- */

static int64_t integer_field(lua_State *L, int at, const char *name, int64_t otherwise)
{
    int64_t value =
        lua_getfield(L, at, name) == LUA_TNIL ? otherwise : luaL_checkinteger(L, -1);

    lua_pop(L, 1);
    return value;
}

static bool true_field(lua_State *L, int at, const char *name)
{
    lua_getfield(L, at, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

static enum body_mode mode_field(lua_State *L, int at)
{
    static const char *const names[] = { "whole", "stream", "file", NULL };
    int mode;

    lua_getfield(L, at, "body_mode");
    mode = luaL_checkoption(L, -1, "whole", names);
    lua_pop(L, 1);
    return (enum body_mode)mode;
}

static unsigned methods_of(lua_State *L, const char *method)
{
    enum method m;

    if (strcmp(method, "ANY") == 0)
        return ((1u << METHOD_COUNT) - 1) & ~(1u << METHOD_TRACE | 1u << METHOD_CONNECT);
    m = method_of(slice_of(method));
    if (m == METHOD_UNKNOWN) luaL_error(L, "unknown method '%s'", method);
    return 1u << m;
}

/* Takes the route into the vm's list, which frees it whatever happens next. */
static struct web_route *new_route(lua_State *L, struct vm *vm)
{
    struct web_route **list =
        mem_resize(vm->route_list, (vm->route_count + 1) * sizeof *list);
    struct web_route *route;

    if (list == NULL) luaL_error(L, "not enough memory");
    vm->route_list = list;
    route = mem_get_clear(sizeof *route);
    if (route == NULL) luaL_error(L, "not enough memory");
    route->run_ref = LUA_NOREF;
    vm->route_list[vm->route_count++] = route;
    return route;
}

/* "file:line" of the handler, for the log. */
static void note_handler(lua_State *L, struct web_route *route, int at)
{
    lua_Debug is;

    lua_getfield(L, at, "handler");
    luaL_checktype(L, -1, LUA_TFUNCTION);
    lua_getinfo(L, ">S", &is);
    snprintf(route->handler, sizeof route->handler, "%s:%d", is.short_src,
             is.linedefined);
}

/* [at] {method=, path=, handler=, run=, name=, body_mode=, body_limit=, etag=, form=,
 * public=} */
static void add_route(lua_State *L, struct vm *vm, int at)
{
    struct web_route *route = new_route(L, vm);
    const char *method, *path, *name;

    lua_getfield(L, at, "method");
    method = luaL_checkstring(L, -1);
    lua_getfield(L, at, "path");
    path = luaL_checkstring(L, -1);
    lua_getfield(L, at, "name");
    name = luaL_checkstring(L, -1);
    route->name = mem_copy_text(name, strlen(name));
    if (route->name == NULL) luaL_error(L, "not enough memory");
    note_handler(L, route, at);
    if (vm->env->metrics != NULL)
        route->metric = metrics_route(vm->env->metrics, slice_of(name));
    route->body_mode = mode_field(L, at);
    route->body_limit = integer_field(L, at, "body_limit", -1);
    route->files_limit = integer_field(L, at, "files_limit", 0);
    route->etag = true_field(L, at, "etag");
    route->form = true_field(L, at, "form");
    route->is_public = true_field(L, at, "public");
    switch (route_add(vm->routes, methods_of(L, method), slice_of(path), route)) {
    case ROUTE_ADDED: break;
    case ROUTE_DUPLICATE: luaL_error(L, "%s: there is such a route already", name); break;
    case ROUTE_MALFORMED: luaL_error(L, "%s: malformed path", name); break;
    case ROUTE_NO_MEMORY: luaL_error(L, "not enough memory"); break;
    }
    lua_getfield(L, at, "run");
    luaL_checktype(L, -1, LUA_TFUNCTION);
    route->run_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 3);
}

/* ---- all of them -------------------------------------------------------------------- */

void web_routes_build(lua_State *L, struct vm *vm)
{
    int app = lua_gettop(L);
    lua_Integer count;

    vm->routes = route_tree_new();
    if (vm->routes == NULL) luaL_error(L, "not enough memory");
    lua_getglobal(L, "require");
    lua_pushliteral(L, "omade.web.compile");
    lua_call(L, 1, 1);
    lua_pushvalue(L, app);
    lua_call(L, 1, 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    count = luaL_len(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_geti(L, -1, i);
        add_route(L, vm, lua_gettop(L));
        lua_pop(L, 1);
    }
    lua_settop(L, app - 1);
}

void web_routes_free(struct vm *vm)
{
    for (size_t i = 0; i < vm->route_count; i++) {
        mem_free(vm->route_list[i]->name);
        mem_free(vm->route_list[i]);
    }
    mem_free(vm->route_list);
    route_tree_free(vm->routes);
    vm->route_list = NULL;
    vm->route_count = 0;
    vm->routes = NULL;
}
