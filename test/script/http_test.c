/* http.request: what comes back, what is refused, and that every end leaves nothing. */
#include "script/script_rig.h"

#include <netdb.h>

#include "script/bind_http.h"
#include "script/fetch.h"
#include "script/http_peer.h"

/* ---- a resolver that can be stopped ---------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stuck;
    int waiting;
} resolver = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

/* Takes the place of the C library's: "stuck.test" hangs, no other name exists. */
int getaddrinfo(const char *restrict name, const char *restrict service,
                const struct addrinfo *restrict hints, struct addrinfo **restrict result)
{
    (void)service;
    (void)hints;
    *result = NULL;
    if (strcmp(name, "stuck.test") != 0) return EAI_NONAME;
    pthread_mutex_lock(&resolver.lock);
    resolver.waiting++;
    while (resolver.stuck) pthread_cond_wait(&resolver.changed, &resolver.lock);
    resolver.waiting--;
    pthread_cond_broadcast(&resolver.changed);
    pthread_mutex_unlock(&resolver.lock);
    return EAI_AGAIN;
}

static int resolver_waiting(void)
{
    int n;

    pthread_mutex_lock(&resolver.lock);
    n = resolver.waiting;
    pthread_mutex_unlock(&resolver.lock);
    return n;
}

static void resolver_stuck(bool stuck)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.stuck = stuck;
    pthread_cond_broadcast(&resolver.changed);
    while (!stuck && resolver.waiting > 0)
        pthread_cond_wait(&resolver.changed, &resolver.lock);
    pthread_mutex_unlock(&resolver.lock);
}

/* ---- the engine --------------------------------------------------------------------- */

static int set_up(void **state)
{
    unsetenv("http_proxy");
    unsetenv("https_proxy");
    unsetenv("all_proxy");
    unsetenv("ALL_PROXY");
    unsetenv("HTTPS_PROXY");
    peer_start();
    return engine_start(state);
}

static int tear_down(void **state)
{
    assert_int_equal(engine.env.tasks_live, 0);
    vm_free(engine.vm);
    http_end(&engine.env);
    assert_null(engine.env.curl);
    peer_stop();
    return engine_stop(state);
}

/* The script sees `http` and `at`, the peer's address. */
static const char *script(const char *text)
{
    static char whole[4000];

    snprintf(whole, sizeof whole,
             "local http, at = require 'omade.core.http', 'http://127.0.0.1:%d' %s",
             peer.port, text);
    return whole;
}

static void returns(const char *text, const char *expected)
{
    engine_returns(script(text), expected);
}

static void raises(const char *text, const char *part)
{
    engine_raises(script(text), part);
}

/* Starts 'count' tasks with the same script. */
static void begin_many(int count, const char *text)
{
    for (int i = 0; i < count; i++)
        assert_true(engine_begin(&engine.outcomes[i], script(text)));
}

static void kill_all(int count)
{
    for (int i = 0; i < count; i++)
        if (engine.outcomes[i].task != NULL)
            task_kill(engine.outcomes[i].task, TASK_KILLED_GONE);
    for (int i = 0; i < count; i++)
        while (!engine.outcomes[i].ended) engine_turn();
}

static size_t fetches(void)
{
    size_t n = 0;

    for (int i = 0; i < OUTCOMES_MAX; i++) {
        const struct task *task = engine.outcomes[i].task;
        const char *waits = task == NULL ? NULL : task_waits_for(task);

        if (waits != NULL && strcmp(waits, "http.request") == 0) n++;
    }
    return n;
}

/* ---- answers --------------------------------------------------------------------- */

static void the_answer_comes_back(void **state)
{
    (void)state;
    returns(
        "local a = http.request{url = at .. '/hello'} "
        "return a.status .. a.body .. a.headers['x-kind'] .. a.headers['content-length']",
        "200hellogreeting5");
    returns("local a = http.request{url = at .. '/hello', method = 'HEAD'} "
            "return a.status .. a.body .. '.'",
            "200.");
    returns(
        "local h = http.request{url = at .. '/headers'}.headers return "
        "h['x-two'] .. '|' .. h['x-empty'] .. '|' .. tostring(h['x-early']) .. '|' .. "
        "tostring(h['x-trailer'])",
        "a, b||nil|nil");
    returns("return http.request{url = at .. '/away'}.status", "503");
    returns("return #http.request{url = at .. '/big', max_bytes = 2097152}.body",
            "2097152");
}

static void the_request_arrives(void **state)
{
    (void)state;
    returns(
        "local b = http.request{url = at .. '/echo', method = 'POST', body = 'a\\0b'}.body "
        "return tostring(b:find('POST /echo HTTP/1.1\\r\\n', 1, true)) .. b:sub(-3):byte(2) "
        ".. tostring(b:find('Content-Type', 1, true)) .. tostring(b:find('Expect', 1, true))",
        "10nilnil");
    returns(
        "local b = http.request{url = at .. '/echo', method = 'PUT'}.body return "
        "tostring(b:find('PUT /echo', 1, true) and b:find('Content-Length: 0', 1, true) ~= nil)",
        "true");
    returns(
        "local b = http.request{url = at .. '/echo', method = 'DELETE'}.body return "
        "tostring(b:find('DELETE /echo', 1, true)) .. tostring(b:find('Content-Length', 1, true))",
        "1nil");
    returns(
        "local b = http.request{url = at .. '/echo', headers = {['X-A'] = 'b c', n = 7, "
        "Empty = '', ['User-Agent'] = 'me', ['content-type'] = 'text/plain'}, body = 'x'}.body "
        "local function has(s) return b:find(s, 1, true) and '+' or '-' end return has('GET /e') "
        ".. has('\\r\\nX-A: b c\\r\\n') .. has('\\r\\nn: 7\\r\\n') .. has('\\r\\nEmpty:\\r\\n') .. "
        "has('User-Agent: me') .. has('omade') .. has('content-type: text/plain')",
        "+++++-+");
    returns("local b = http.request{url = at .. '/echo', method = 'POST', body = "
            "('0123456789'):rep(5000)}.body return #b:match('\\r\\n\\r\\n(.*)$')",
            "50000");
}

static void redirects_are_answers_unless_followed(void **state)
{
    (void)state;
    returns("local a = http.request{url = at .. '/redirect'} "
            "return a.status .. a.headers.location .. a.body",
            "302/hellomoved");
    returns("local a = http.request{url = at .. '/redirect', follow = true} "
            "return a.status .. a.body .. tostring(a.headers.location)",
            "200hellonil");
    raises("http.request{url = at .. '/circle', follow = true}", "redirects");
    raises("http.request{url = at .. '/file', follow = true}", "rotocol");
}

/* ---- failures -------------------------------------------------------------------- */

static void failures_have_a_status(void **state)
{
    static const struct {
        const char *options, *expected;
    } cases[] = {
        { "url = at .. '/half'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/half-head'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/rubbish'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/nothing'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/big'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/big', max_bytes = 2097151", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/hello', max_bytes = 4", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/endless'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/endless-head'", "503 UNAVAILABLE 127.0.0.1" },
        { "url = at .. '/hold', timeout = 0.1", "504 TIMEOUT 127.0.0.1" },
        { "url = at .. '/drip', timeout = 0.1", "504 TIMEOUT 127.0.0.1" },
        { "url = 'http://nowhere.test/'", "503 UNAVAILABLE nowhere.test" },
        { "url = at:gsub('http', 'https', 1) .. '/hello'", "503 UNAVAILABLE 127.0.0.1" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[400];

        snprintf(
            text, sizeof text,
            "local ok, e = pcall(http.request, {%s}) assert(not ok) return e.status .. "
            "' ' .. e.code .. ' ' .. e.detail:match('^http.request: ([^ ]*):')",
            cases[i].options);
        returns(text, cases[i].expected);
    }
}

static void a_refused_connection_is_a_failure(void **state)
{
    char text[300];
    int port, fd = peer_listen(&port);

    (void)state;
    close(fd);
    snprintf(
        text, sizeof text,
        "local ok, e = pcall(http.request, {url = 'http://me:secret@127.0.0.1:%d/x?secret'}) "
        "return tostring(e.status) .. tostring(e.detail)",
        port);
    returns(text, "503http.request: 127.0.0.1: Couldn't connect to server");
}

static void misuse_says_what_to_do(void **state)
{
    static const struct {
        const char *options, *message;
    } cases[] = {
        { "{}", "url is missing" },
        { "'http://a'", "table expected" },
        { "{url = 'ftp://a/b'}", "must be http://" },
        { "{url = 'file:///etc/passwd'}", "must be http://" },
        { "{url = '/path'}", "must be http://" },
        { "{url = 'http://a/\\r\\nX: y'}", "must be http://" },
        { "{url = 'http://a/\\0b'}", "must be http://" },
        { "{url = 'http://' .. ('a'):rep(9000)}", "must be http://" },
        { "{url = at, methd = 'GET'}", "no option 'methd'" },
        { "{url = at, 'GET'}", "no option" },
        { "{url = at, method = 'get'}", "no method 'get'" },
        { "{url = at, method = 'CONNECT'}", "no method 'CONNECT'" },
        { "{url = at, headers = {A = 'b\\r\\nC: d'}}", "must not contain CR" },
        { "{url = at, headers = {A = 'b\\n'}}", "must not contain CR" },
        { "{url = at, headers = {A = 'b\\0c'}}", "must not contain CR" },
        { "{url = at, headers = {['A\\r\\nB'] = 'c'}}", "name is malformed" },
        { "{url = at, headers = {['A:'] = 'c'}}", "name is malformed" },
        { "{url = at, headers = {[''] = 'c'}}", "name is malformed" },
        { "{url = at, headers = {'A: b'}}", "name = text" },
        { "{url = at, headers = {A = {}}}", "name = text" },
        { "{url = at, headers = 'A: b'}", "name = text" },
        { "{url = at, headers = {['content-length'] = '5'}}", "not for scripts" },
        { "{url = at, headers = {['Transfer-Encoding'] = 'chunked'}}",
          "not for scripts" },
        { "{url = at, body = {}}", "string or bytes" },
        { "{url = at, body = 7}", "string or bytes" },
        { "{url = at, method = 'HEAD', body = ''}", "HEAD has no body" },
        { "{url = at, timeout = 0}", "up to 120" },
        { "{url = at, timeout = 121}", "up to 120" },
        { "{url = at, timeout = 0/0}", "up to 120" },
        { "{url = at, timeout = '5'}", "up to 120" },
        { "{url = at, max_bytes = -1}", "max_bytes is" },
        { "{url = at, max_bytes = 1e9}", "max_bytes is" },
        { "{url = at, method = 'POST', follow = true}", "only GET and HEAD" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        char text[400];

        snprintf(text, sizeof text, "http.request(%s)", cases[i].options);
        raises(text, cases[i].message);
    }
    raises("table.sort({2, 1}, function() http.request{url = at} end)",
           "cannot wait inside sort");
    assert_int_equal(peer.accepted, 0);
}

/* ---- ends ------------------------------------------------------------------------ */

static void a_killed_task_leaves_its_server(void **state)
{
    static const char *const paths[] = { "/hold", "/drip" };

    (void)state;
    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char text[100];

        snprintf(text, sizeof text, "http.request{url = at .. '%s', timeout = 100}",
                 paths[i]);
        begin_many(1, text);
        while (peer.held == 0) engine_turn();
        for (int n = 0; n < 3; n++) engine_turn();
        kill_all(1);
        assert_int_equal(engine.outcomes[0].killed, TASK_KILLED_GONE);
        while (peer.held > 0) engine_turn();
    }
}

static void a_task_killed_at_any_turn_ends(void **state)
{
    (void)state;
    for (int turns = 0; turns < 40; turns++) {
        begin_many(2,
                   "http.request{url = at .. '/hello'} http.request{url = at .. '/big', "
                   "max_bytes = 3000000} sleep(100)");
        for (int n = 0; n < turns; n++) uv_run(&engine.loop, UV_RUN_NOWAIT);
        kill_all(1);
        for (int n = 0; n < turns; n++) uv_run(&engine.loop, UV_RUN_NOWAIT);
        kill_all(2);
    }
    returns("return http.request{url = at .. '/hello'}.body", "hello");
}

static void an_answer_for_a_killed_task_is_dropped(void **state)
{
    (void)state;
    begin_many(1, "http.request{url = at .. '/hello'}");
    engine.hold = true;
    while (engine.env.ready.count == 0) engine_turn();
    task_kill(engine.outcomes[0].task, TASK_KILLED_GONE);
    engine.hold = false;
    while (!engine.outcomes[0].ended) engine_turn();
    assert_int_equal(engine.outcomes[0].killed, TASK_KILLED_GONE);
}

/* A name that does not resolve holds neither the loop nor the end of its task. */
static void a_stuck_resolver_is_left_alone(void **state)
{
    (void)state;
    resolver_stuck(true);
    begin_many(2, "http.request{url = 'http://stuck.test/', timeout = 100}");
    while (resolver_waiting() < 2) engine_turn();
    returns("return http.request{url = at .. '/hello'}.body", "hello");
    kill_all(2);
    returns(
        "local ok, e = pcall(http.request, {url = 'http://stuck.test/', timeout = 0.1}) "
        "return e.status",
        "504");
    assert_true(resolver_waiting() >= 2);
    resolver_stuck(false);
}

/* ---- many ------------------------------------------------------------------------ */

static void connections_are_reused(void **state)
{
    (void)state;
    returns(
        "local n = 0 for i = 1, 500 do n = n + #http.request{url = at .. '/hello'}.body end "
        "return n",
        "2500");
    assert_int_equal(peer.accepted, 1);
}

static void a_hundred_side_by_side(void **state)
{
    (void)state;
    returns(
        "local function one() return #http.request{url = at .. '/hello'}.body end "
        "local function fifty() local fns = {} for i = 1, 50 do fns[i] = one end "
        "local n = 0 for _, k in ipairs({all(table.unpack(fns))}) do n = n + k end return n end "
        "local a, b = all(fifty, fifty) return a + b",
        "500");
    assert_true(peer.accepted <= FETCH_RUNNING_MAX);
}

static void too_many_wait_and_more_are_refused(void **state)
{
    enum { FULL = FETCH_RUNNING_MAX + FETCH_WAITING_MAX };

    (void)state;
    begin_many(FULL, "http.request{url = at .. '/hold', timeout = 100}");
    while (peer.held < FETCH_RUNNING_MAX) engine_turn();
    assert_int_equal(fetches(), FULL);
    assert_true(
        engine_begin(&engine.outcomes[FULL],
                     script("local ok, e = pcall(http.request, {url = at .. '/hello'}) "
                            "return e.status .. e.code")));
    assert_true(engine.outcomes[FULL].ended);
    assert_string_equal(engine.outcomes[FULL].result, "503UNAVAILABLE");
    assert_int_equal(peer.accepted, FETCH_RUNNING_MAX);

    /* One leaves, the first that waits gets its place. */
    task_kill(engine.outcomes[0].task, TASK_KILLED_GONE);
    while (peer.accepted == FETCH_RUNNING_MAX) engine_turn();
    task_kill(engine.outcomes[FULL - 1].task, TASK_KILLED_GONE); /* it waits */
    kill_all(FULL);
    while (peer.held > 0) engine_turn();
}

static void a_deadline_counts_from_the_start(void **state)
{
    enum { LAST = FETCH_RUNNING_MAX };

    (void)state;
    begin_many(LAST, "http.request{url = at .. '/hold', timeout = 100}");
    assert_true(
        engine_begin(&engine.outcomes[LAST],
                     script("local ok, e = pcall(http.request, {url = at .. '/hello', "
                            "timeout = 0.1}) return e.status .. e.code")));
    while (!engine.outcomes[LAST].ended) engine_turn();
    assert_string_equal(engine.outcomes[LAST].result, "504TIMEOUT");
    kill_all(LAST);
}

/* ---- without memory -------------------------------------------------------------- */

static void every_allocation_may_fail(void **state)
{
    const char *text =
        "local b = http.request{url = at .. '/echo', method = 'POST', "
        "headers = {A = 'b'}, body = 'hello', timeout = 20}.body return b:sub(-5)";
    int done = 0;

    (void)state;
    for (long n = 0; done < 3; n++) {
        struct outcome *o = &engine.outcomes[0];
        const char *whole = script(text);

        mem_fail_after(n);
        if (engine_begin(o, whole))
            while (!o->ended) engine_turn();
        bool failed = mem_failed() != 0;
        mem_fail_after(-1);
        if (!failed) done++;
        assert_true(failed || o->ok);
        if (o->ok) assert_string_equal(o->result, "hello");
        http_end(&engine.env);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_answer_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_request_arrives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(redirects_are_answers_unless_followed, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(failures_have_a_status, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_refused_connection_is_a_failure, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(misuse_says_what_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_killed_task_leaves_its_server, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_task_killed_at_any_turn_ends, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(an_answer_for_a_killed_task_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_stuck_resolver_is_left_alone, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(connections_are_reused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_hundred_side_by_side, set_up, tear_down),
        cmocka_unit_test_setup_teardown(too_many_wait_and_more_are_refused, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_deadline_counts_from_the_start, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(every_allocation_may_fail, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
