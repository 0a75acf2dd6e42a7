/* main.c -- the command line; the only place that may end the process with an error. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/redis.h"
#include "command.h"
#include "config.h"
#include "supervisor.h"

enum { EXIT_USAGE = 2 };

struct verb {
    const char *name;
    int (*run)(const struct verb *verb, struct config *config, int argc, char *argv[]);
    const char *usage, *summary;
};

/* ---- ending ------------------------------------------------------------------------- */

__attribute__((noreturn)) static void die(int code, const char *message)
{
    log_flush_all();
    fprintf(stderr, "omade: %s\n", message);
    exit(code);
}

__attribute__((noreturn)) static void die_with(int code, struct buf *fault)
{
    buf_add_byte(fault, '\0');
    die(code, fault->failed ? "out of memory" : fault->p);
}

__attribute__((noreturn)) static void die_usage(const struct verb *verb, const char *what,
                                                const char *which)
{
    fprintf(stderr, "omade %s: %s%s; usage: omade %s\n", verb->name, what, which,
            verb->usage);
    exit(EXIT_USAGE);
}

/* ---- where things are ------------------------------------------------------------------ */

static bool has_scripts(const char *folder)
{
    char path[PATH_MAX + 32];
    struct stat st;

    snprintf(path, sizeof path, "%s/lua/omade/web.lua", folder);
    return stat(path, &st) == 0;
}

/* OMADE_HOME, or a folder above the binary that holds lua/omade. */
static const char *find_home(void)
{
    static char home[PATH_MAX];
    const char *asked = getenv("OMADE_HOME");
    ssize_t n;

    if (asked != NULL && *asked != '\0') {
        if (realpath(asked, home) == NULL || !has_scripts(home))
            die(1, "OMADE_HOME does not hold lua/omade");
        return home;
    }
    n = readlink("/proc/self/exe", home, sizeof home - 1);
    if (n > 0) {
        home[n] = '\0';
        for (char *slash; (slash = strrchr(home, '/')) != NULL && slash != home;) {
            *slash = '\0';
            if (has_scripts(home)) return home;
        }
    }
    if (has_scripts(OMADE_SOURCE_DIR)) return OMADE_SOURCE_DIR;
    die(1, "cannot find lua/omade; set OMADE_HOME to the folder that holds it");
}

static void set_app(struct config *config, const char *folder)
{
    static char path[PATH_MAX];
    struct stat st;
    char message[PATH_MAX + 80];

    if (folder == NULL) snprintf(path, sizeof path, "%s/lua/bakery", config->home);
    else if (realpath(folder, path) == NULL || stat(path, &st) != 0 ||
             !S_ISDIR(st.st_mode)) {
        snprintf(message, sizeof message, "there is no app folder '%s'", folder);
        die(1, message);
    }
    config->app = path;
}

/* An app that was asked for has an app.lua. */
static void find_app(struct config *config, const char *folder)
{
    struct buf path = { 0 }, message = { 0 };
    struct stat st;

    set_app(config, folder);
    buf_addf(&path, "%s/app.lua", config->app);
    buf_add_byte(&path, '\0');
    if (path.failed) die(1, "out of memory");
    if (stat(path.p, &st) == 0) {
        buf_free(&path);
        return;
    }
    buf_addf(&message, "there is no app.lua in the app folder %s", config->app);
    die_with(1, &message);
}

static void set_upload_dir(struct config *config)
{
    static char path[PATH_MAX];
    const char *state = getenv("OMADE_STATE_DIR");
    char message[PATH_MAX + 80];

    if (*config->upload_dir != '\0') {
        if (mkdir(config->upload_dir, 0700) == 0 || errno == EEXIST) errno = 0;
        if (errno == 0 && access(config->upload_dir, W_OK | X_OK) == 0) return;
        snprintf(message, sizeof message, "UPLOAD_DIR '%s': %s", config->upload_dir,
                 strerror(errno));
        die(1, message);
    }
    if (state == NULL || *state == '\0') snprintf(path, sizeof path, "/tmp");
    else snprintf(path, sizeof path, "%s/uploads", state);
    if (state != NULL && mkdir(path, 0700) != 0 && errno != EEXIST)
        snprintf(path, sizeof path, "/tmp");
    config->upload_dir = path;
}

/* ---- options ------------------------------------------------------------------------------- */

/* --port 3000, --port=3000 and the like set the setting of that name. */
static bool take_option(const struct verb *verb, struct config *config, int argc,
                        char *argv[], int *i)
{
    static const struct {
        const char *option, *setting;
    } options[] = { { "--port", "PORT" },
                    { "--host", "HOST" },
                    { "--workers", "WORKERS" } };
    struct buf fault = { 0 };

    for (size_t k = 0; k < COUNT_OF(options); k++) {
        size_t n = strlen(options[k].option);
        const char *value;

        if (strncmp(argv[*i], options[k].option, n) != 0) continue;
        if (argv[*i][n] == '=') value = argv[*i] + n + 1;
        else if (argv[*i][n] != '\0') continue;
        else if (*i + 1 < argc) value = argv[++*i];
        else die_usage(verb, "a value is missing after ", options[k].option);
        if (!config_set(config, options[k].setting, value, &fault))
            die_with(EXIT_USAGE, &fault);
        return true;
    }
    return false;
}

/* Options, and at most one app folder. */
static void take_arguments(const struct verb *verb, struct config *config, int argc,
                           char *argv[])
{
    const char *app = NULL;

    for (int i = 0; i < argc; i++) {
        if (take_option(verb, config, argc, argv, &i)) continue;
        if (argv[i][0] == '-') die_usage(verb, "unknown option ", argv[i]);
        if (app != NULL)
            die_usage(verb, "one app folder is expected, not also ", argv[i]);
        app = argv[i];
    }
    find_app(config, app);
}

/* ---- verbs -------------------------------------------------------------------------------------- */

static void setup_log(const struct config *config)
{
    enum log_level level = LOG_INFO;

    (void)log_level_of(slice_of(config->log_level), &level);
    log_setup(level, strcmp(config->log_format, "json") == 0 ? LOG_JSON : LOG_KEY_VALUE,
              "supervisor");
}

/* Is the database fit to serve from?  In a process of its own: what comes after forks,
 * and wants no threads or connections behind it. */
static void check_database(const struct config *config)
{
    struct buf fault = { 0 };
    int status = 0;
    pid_t pid;

    if (config->app_database_url == NULL) return;
    log_flush_all();
    pid = fork();
    if (pid == 0) {
        if (command_run(config, "check", NULL, 0, RUNTIME_PLAIN, &fault) != 0)
            die_with(1, &fault);
        exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) die(1, "cannot start a process");
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) exit(1);
}

static void check_redis(const struct config *config)
{
    struct buf fault = { 0 };
    char why[160];

    if (config->redis_url == NULL || redis_url_check(config->redis_url, why)) return;
    buf_addf(&fault, "REDIS_URL: %s", why);
    die_with(1, &fault);
}

/* Other than on and off it names a file; what is in it, limits.lua reads. */
static void check_rate_limits(const struct config *config)
{
    const char *value = config->rate_limits;
    struct buf path = { 0 }, fault = { 0 };

    if (*value == '\0' || strcmp(value, "on") == 0 || strcmp(value, "off") == 0) return;
    buf_addf(&path, "%s%s%s", *value == '/' ? "" : config->home, *value == '/' ? "" : "/",
             value);
    buf_add_byte(&path, '\0');
    if (!path.failed && access(path.p, R_OK) == 0) {
        buf_free(&path);
        return;
    }
    buf_addf(&fault, "RATE_LIMITS is '%s', but must be on, off or a file: %s", value,
             strerror(errno));
    die_with(1, &fault);
}

static int serve(const struct config *config)
{
    struct buf fault = { 0 };
    int code;

    check_redis(config);
    check_rate_limits(config);
    check_database(config);
    code = supervisor_run(config, &fault);
    if (fault.n > 0) die_with(1, &fault);
    return code;
}

static int run_serve(const struct verb *verb, struct config *config, int argc,
                     char *argv[])
{
    take_arguments(verb, config, argc, argv);
    if (*config->host == '\0') config->host = "0.0.0.0";
    setup_log(config);
    set_upload_dir(config);
    if (config->app_database_url == NULL)
        die(1, "APP_DATABASE_URL is not set: the server needs PostgreSQL as app_user "
               "(postgres://app_user:password@host/omade_cravings)");
    if (config->redis_url == NULL)
        die(1, "REDIS_URL is not set: the server needs Redis (redis://host:6379/0)");
    return serve(config);
}

static int run_dev(const struct verb *verb, struct config *config, int argc, char *argv[])
{
    take_arguments(verb, config, argc, argv);
    if (*config->host == '\0') config->host = "127.0.0.1";
    if (*config->cors_origins == '\0') config->cors_origins = "*";
    config->development = true;
    config->watch = true;
    setup_log(config);
    set_upload_dir(config);
    return serve(config);
}

static int run_config(const struct verb *verb, struct config *config, int argc,
                      char *argv[])
{
    struct buf out = { 0 };

    if (argc > 0) die_usage(verb, "unexpected argument ", argv[0]);
    config_print(config, &out);
    if (out.failed) die(1, "out of memory");
    fwrite(out.p, 1, out.n, stdout);
    buf_free(&out);
    return 0;
}

/* A command written in Lua. */
static int run_lua(const struct verb *verb, const struct config *config,
                   enum runtime_role role, int argc, char *argv[])
{
    struct buf fault = { 0 };
    int code;

    setup_log(config);
    code = command_run(config, verb->name, argv, argc, role, &fault);
    if (fault.n > 0) {
        buf_add_byte(&fault, '\0');
        fprintf(stderr, "omade %s: %s\n", verb->name,
                fault.failed ? "out of memory" : fault.p);
    }
    buf_free(&fault);
    return code;
}

static int run_database(const struct verb *verb, struct config *config, int argc,
                        char *argv[])
{
    if (config->database_url == NULL)
        die(1, "DATABASE_URL is not set: this command needs PostgreSQL as the owner "
               "(postgres://omade_owner:password@host/omade_cravings)");
    set_app(config, NULL);
    return run_lua(verb, config, RUNTIME_OWNER, argc, argv);
}

/* Commands that talk to the database on sessions of their own, as the owner. */
static int run_db(const struct verb *verb, struct config *config, int argc, char *argv[])
{
    set_app(config, NULL);
    return run_lua(verb, config, RUNTIME_PLAIN, argc, argv);
}

/* With the server's code and rights: what it warms is what a route would keep. */
static int run_cache(const struct verb *verb, struct config *config, int argc,
                     char *argv[])
{
    check_redis(config);
    set_app(config, NULL);
    config->log_level = "off"; /* what fails, the command says in one line */
    /* Nobody queues behind it: on a busy machine rather late than not. */
    if (config->redis_timeout < 5000) config->redis_timeout = 5000;
    return run_lua(verb, config, RUNTIME_SERVER, argc, argv);
}

static int run_routes(const struct verb *verb, struct config *config, int argc,
                      char *argv[])
{
    if (argc > 0 && argv[0][0] == '-') die_usage(verb, "unknown option ", argv[0]);
    if (argc > 1) die_usage(verb, "one app folder is expected, not also ", argv[1]);
    find_app(config, argc > 0 ? argv[0] : NULL);
    return run_lua(verb, config, RUNTIME_PLAIN, 0, NULL);
}

static int run_help(const struct verb *verb, struct config *config, int argc,
                    char *argv[]);

static const struct verb verbs[] = {
    { "serve", run_serve, "serve [APP] [--port N] [--host ADDRESS] [--workers N]",
      "serve in production: needs APP_DATABASE_URL and REDIS_URL" },
    { "dev", run_dev, "dev [APP] [--port N] [--host ADDRESS] [--workers N]",
      "serve with hot reload" },
    { "migrate", run_database, "migrate [up|down|status]",
      "bring the database up to date" },
    { "seed", run_database, "seed", "fill the database with sample data" },
    { "user", run_database,
      "user add --role ROLE --email E [--name N] [--password-stdin]",
      "make an account, such as the first admin's" },
    { "db", run_db,
      "db size|rows|indexes|slow|bloat|locks|activity [--json] [--watch [SECONDS]], "
      "slow --by total|mean|calls, maintain daily|weekly [--dry-run], doctor [--json], "
      "conf [--memory MB] [--disk ssd|hdd]",
      "look after the database: figures, maintenance, a check-up" },
    { "cache", run_cache, "cache stats [--json], warm, flush",
      "look after the cache in Redis" },
    { "routes", run_routes, "routes [APP]", "list the routes and who may call them" },
    { "config", run_config, "config", "list all settings with their values" },
    { "help", run_help, "help", "list all commands" },
};

static int run_help(const struct verb *verb, struct config *config, int argc,
                    char *argv[])
{
    (void)config;
    (void)argv;
    if (argc > 0) die_usage(verb, "unexpected argument ", argv[0]);
    puts("omade " OMADE_VERSION ", a Lua-scriptable backend engine\n");
    for (size_t i = 0; i < COUNT_OF(verbs); i++)
        printf("  %-10s %s\n", verbs[i].name, verbs[i].summary);
    puts("\n`omade COMMAND --help` tells how a command is used.");
    return 0;
}

/* What is opened later must not become standard output: a number that was closed by who
 * started us is taken.  Printing fails then, as it should. */
static void take_standard_streams(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) continue;
        if (open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY) != fd) _exit(1);
    }
}

/* ---- main ------------------------------------------------------------------------------------------ */

static bool asks_help(int argc, char *argv[])
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) return true;
    return false;
}

int main(int argc, char *argv[])
{
    struct buf fault = { 0 };
    struct config config;
    const char *name = argc < 2 || asks_help(1, argv + 1) ? "help" : argv[1];

    take_standard_streams();
    for (size_t i = 0; i < COUNT_OF(verbs); i++) {
        if (strcmp(verbs[i].name, name) != 0) continue;
        if (asks_help(argc - 2, argv + 2)) {
            printf("usage: omade %s\n%s\n", verbs[i].usage, verbs[i].summary);
            return 0;
        }
        if (verbs[i].run == run_help)
            return run_help(&verbs[i], NULL, argc > 2 ? argc - 2 : 0, argv + 2);
        if (!config_read(&config, find_home(), &fault)) die_with(1, &fault);
        int code = verbs[i].run(&verbs[i], &config, argc > 2 ? argc - 2 : 0, argv + 2);
        config_free(&config);
        return code;
    }
    fprintf(stderr, "omade: unknown command '%s'; see omade help\n", name);
    return EXIT_USAGE;
}
