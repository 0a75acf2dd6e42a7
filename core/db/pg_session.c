#include "db/pg_session.h"

static void ignore_notice(void *ctx, const PGresult *notice)
{
    (void)ctx;
    (void)notice;
}

PGconn *pg_session_open(const char *url)
{
    const char *const keys[] = { "dbname",  "application_name", "client_encoding",
                                 "options", "connect_timeout",  NULL };
    const char *const values[] = { url, "omade command", "UTF8", "-c TimeZone=UTC", "10",
                                   NULL };
    PGconn *session = PQconnectdbParams(keys, values, 1);

    if (session != NULL) PQsetNoticeReceiver(session, ignore_notice, NULL);
    return session;
}

PGresult *pg_session_run(PGconn *session, const char *script)
{
    return PQexec(session, script);
}
