/* config.h -- environment and .env, once read, then immutable.
 *
 * Every setting of the engine stands once, in the list below: its name, default, range,
 * unit and meaning.  `omade config` prints it.  The environment wins over the file
 * .env of the home folder; command-line options win over both.
 */
#ifndef CONFIG_H
#define CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/check.h"

/* TEXT(field, NAME, default, meaning)
 * NUMBER(field, NAME, default, least, most, unit, meaning)
 * FLAG(field, NAME, default, meaning)                        on | off
 * CHOICE(field, NAME, default, choices, meaning)             one of "this|that"
 * SECRET(field, NAME, meaning)                               a TEXT never printed
 * DATABASE(field, NAME, meaning)                             a SECRET that libpq takes
 * PROXIES(field, NAME, meaning)                              as http/proxy.h reads them */
/* clang-format off */
#define CONFIG_SETTINGS(TEXT, NUMBER, FLAG, CHOICE, SECRET, DATABASE, PROXIES)                \
    NUMBER(port, "PORT", 3000, 0, 65535, "", "port to serve on; 0 picks a free one")          \
    TEXT(host, "HOST", "", "address to serve on; 127.0.0.1 in dev, 0.0.0.0 in serve")         \
    NUMBER(workers, "WORKERS", 0, 0, 256, "", "processes; 0: one in dev, the cores in serve") \
    DATABASE(database_url, "DATABASE_URL", "PostgreSQL as the owner: migrate, seed, psql")      \
    DATABASE(app_database_url, "APP_DATABASE_URL", "PostgreSQL as app_user: the server")        \
    DATABASE(listen_url, "DATABASE_LISTEN_URL", "PostgreSQL past a pooler, for LISTEN")         \
    SECRET(redis_url, "REDIS_URL", "redis://[user:password@]host:port/db, or unix:///path")   \
    FLAG(allow_owner, "ALLOW_OWNER", false, "serve also as superuser or table owner")         \
    NUMBER(db_connections, "DB_CONNECTIONS", 2, 1, 64, "", "shared connections a worker")     \
    NUMBER(db_transactions, "DB_TRANSACTION_CONNECTIONS", 2, 1, 64, "",                       \
           "connections a worker for transactions; 1 counts as 2: jobs hold one")            \
    NUMBER(db_queue_max, "DB_QUEUE_MAX", 1000, 1, 100000, "", "operations that wait; more: 503") \
    NUMBER(db_queue_timeout, "DB_QUEUE_TIMEOUT", 3000, 1, 600000, "ms", "longest wait for a connection") \
    NUMBER(db_in_flight_max, "DB_IN_FLIGHT_MAX", 200, 1, 10000, "", "operations under way on a connection") \
    NUMBER(db_statements_max, "DB_STATEMENTS_MAX", 500, 1, 10000, "", "prepared statements a connection") \
    FLAG(db_named, "DB_NAMED_STATEMENTS", true, "off behind PgBouncer in transaction mode")   \
    NUMBER(db_connect_timeout, "DB_CONNECT_TIMEOUT", 3000, 10, 600000, "ms", "for a new connection") \
    NUMBER(db_query_timeout, "DB_QUERY_TIMEOUT", 5000, 10, 3600000, "ms", "for a statement; then 504") \
    NUMBER(db_row_max, "DB_ROW_MAX", 100000, 1, 10000000, "rows", "of one operation's result") \
    NUMBER(db_byte_max, "DB_BYTE_MAX", 16777216, 1024, 1073741824, "bytes", "of one operation's result") \
    NUMBER(redis_timeout, "REDIS_TIMEOUT", 100, 1, 60000, "ms", "for a command")              \
    NUMBER(redis_connect_timeout, "REDIS_CONNECT_TIMEOUT", 1000, 10, 60000, "ms", "for the connection") \
    NUMBER(head_timeout, "HTTP_HEAD_TIMEOUT", 10000, 10, 600000, "ms", "for a whole request head; then 408") \
    NUMBER(idle_timeout, "HTTP_IDLE_TIMEOUT", 60000, 10, 3600000, "ms", "of a connection without a request") \
    NUMBER(write_timeout, "HTTP_WRITE_TIMEOUT", 30000, 10, 3600000, "ms", "for a client that reads nothing") \
    NUMBER(body_min_rate, "HTTP_BODY_MIN_RATE", 1024, 0, 1073741824, "bytes/s", "of a body; slower: 408") \
    NUMBER(body_limit, "HTTP_BODY_LIMIT", 1048576, 0, 1073741824, "bytes", "of a body, unless the route says") \
    NUMBER(write_buffer, "HTTP_WRITE_BUFFER", 262144, 4096, 1073741824, "bytes", "that wait for a slow reader") \
    NUMBER(max_connections, "HTTP_MAX_CONNECTIONS", 10000, 1, 1000000, "", "clients a worker") \
    TEXT(upload_dir, "UPLOAD_DIR", "", "keeps uploads; OMADE_STATE_DIR/uploads, or /tmp")       \
    NUMBER(request_timeout, "REQUEST_TIMEOUT", 30000, 10, 3600000, "ms", "for an answer, but of streams; then 504") \
    NUMBER(script_cpu, "SCRIPT_CPU", 200, 1, 600000, "ms", "CPU time between two waits")      \
    NUMBER(script_request_cpu, "SCRIPT_REQUEST_CPU", 1000, 1, 600000, "ms", "CPU time of a request") \
    NUMBER(script_load_cpu, "SCRIPT_LOAD_CPU", 2000, 1, 600000, "ms", "CPU time to load all scripts") \
    NUMBER(script_memory, "SCRIPT_MEMORY", 134217728, 4194304, 17179869184, "bytes", "Lua heap of a worker") \
    NUMBER(script_task_memory, "SCRIPT_TASK_MEMORY", 16777216, 65536, 17179869184, "bytes", "a request's share") \
    NUMBER(shared_memory, "SHARED_MEMORY", 16777216, 1024, 1073741824, "bytes", "of omade.shared")  \
    NUMBER(time_scale, "OMADE_TIME_SCALE", 1, 1, 1000, "", "multiplies every time limit, for slow machines") \
    NUMBER(drain_timeout, "DRAIN_TIMEOUT", 20000, 10, 600000, "ms", "for requests in flight at the end") \
    NUMBER(heartbeat, "HEARTBEAT_TIMEOUT", 10000, 100, 600000, "ms", "without a sign of life; then killed") \
    NUMBER(heartbeat_cpu, "HEARTBEAT_CPU", 1000, 50, 600000, "ms", "CPU time without a sign of life") \
    CHOICE(log_level, "LOG_LEVEL", "info", "debug|info|warn|error|off", "the least that is logged") \
    CHOICE(log_format, "LOG_FORMAT", "text", "text|json", "of the log; text is key=value")    \
    TEXT(cors_origins, "CORS_ORIGINS", "", "allowed origins, comma-separated, or *; * in dev") \
    TEXT(shop_timezone, "SHOP_TIMEZONE", "UTC", "the shop's time zone")                       \
    TEXT(rate_limits, "RATE_LIMITS", "", "on, off or a JSON file; off in dev, on in serve")        \
    SECRET(metrics_token, "METRICS_TOKEN", "who sends it may read /metrics; unset: nobody")      \
    NUMBER(metrics_port, "METRICS_PORT", -1, -1, 65535, "", "/metrics without a token; 0: a free one, -1: none") \
    TEXT(metrics_host, "METRICS_HOST", "127.0.0.1", "address of METRICS_PORT")                   \
    PROXIES(trusted_proxies, "TRUSTED_PROXIES", "addresses and CIDR ranges of proxies, comma-separated") \
    FLAG(watch, "WATCH", false, "reload when a script changes; on in dev")
/* clang-format on */

struct config {
#define CONFIG_TEXT(field, ...) const char *field;
#define CONFIG_NUMBER(field, ...) int64_t field;
#define CONFIG_FLAG(field, ...) bool field;
    CONFIG_SETTINGS(CONFIG_TEXT, CONFIG_NUMBER, CONFIG_FLAG, CONFIG_TEXT, CONFIG_TEXT,
                    CONFIG_TEXT, CONFIG_TEXT)
#undef CONFIG_TEXT
#undef CONFIG_NUMBER
#undef CONFIG_FLAG
    bool development;
    const char *home;         /* the folder with lua/ and migrations/ */
    const char *app;          /* the app's folder */
    struct config_file *file; /* what .env said */
};

/* Reads .env of 'home' and the environment.  False, and a message that names the
 * setting, for a wrong value.  The texts live until the process ends. */
MUST_CHECK bool config_read(struct config *config, const char *home, struct buf *fault);

/* Frees what .env left; the texts of 'config' are gone with it. */
void config_free(struct config *config);

/* Sets one by its name, as an option of the command line does. */
MUST_CHECK bool config_set(struct config *config, const char *name, const char *value,
                           struct buf *fault);

/* Any setting as text, the engine's or the app's; NULL when it is not set. */
const char *config_text(const struct config *config, const char *name);

/* The list, for `omade config`: with values, defaults, units; secrets only as "set". */
void config_print(const struct config *config, struct buf *out);

#endif
