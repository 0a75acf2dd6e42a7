#include "script/libraries.h"

#include <lauxlib.h>

#include "base/check.h"
#include "script/bind_commerce.h"
#include "script/bind_core.h"
#include "script/bind_crypto.h"
#include "script/bind_decimal.h"
#include "script/bind_http.h"
#include "script/bind_json.h"
#include "script/bind_jwt.h"
#include "script/bind_mail.h"
#include "script/bind_money.h"
#include "script/bind_pg.h"
#include "script/bind_redis.h"
#include "script/bind_shared.h"
#include "script/bind_tasks.h"
#include "script/bind_time.h"
#include "script/fail.h"
#include "script/require.h"
#include "script/sandbox.h"
#include "script/web.h"

static void open_natives(lua_State *L)
{
    static const luaL_Reg natives[] = {
        { "omade.core.commerce", luaopen_omade_commerce },
        { "omade.core.crypto", luaopen_omade_crypto },
        { "omade.core.db", luaopen_omade_db },
        { "omade.core.decimal", luaopen_omade_decimal },
        { "omade.core.engine", luaopen_omade_engine },
        { "omade.core.http", luaopen_omade_http },
        { "omade.core.json", luaopen_omade_json },
        { "omade.core.jwt", luaopen_omade_jwt },
        { "omade.core.log", luaopen_omade_log },
        { "omade.core.mail", luaopen_omade_mail },
        { "omade.core.money", luaopen_omade_money },
        { "omade.core.redis", luaopen_omade_redis },
        { "omade.core.shared", luaopen_omade_shared },
        { "omade.core.time", luaopen_omade_time },
        { "omade.core.uuid", luaopen_omade_uuid },
    };

    for (size_t i = 0; i < COUNT_OF(natives); i++)
        require_native(L, natives[i].name, natives[i].func);
}

static void open_globals(lua_State *L)
{
    static const luaL_Reg globals[] = {
        { "all", tasks_all },
        { "every", tasks_every },
        { "sleep", time_sleep },
        { "spawn", tasks_spawn },
    };

    for (size_t i = 0; i < COUNT_OF(globals); i++) {
        lua_pushcfunction(L, globals[i].func);
        sandbox_global(L, globals[i].name);
    }
}

void libraries_open(lua_State *L)
{
    fail_open(L);
    web_answer_open(L);
    web_request_open(L);
    web_stream_open(L);
    open_natives(L);
    open_globals(L);
}
