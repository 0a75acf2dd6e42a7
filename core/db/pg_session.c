#include "db/pg_session.h"

static void ignore_notice(void *ctx, const PGresult *notice)
{
    (void)ctx;
    (void)notice;
}

/* By a statement: PgBouncer refuses options in the start packet.  Where it fails, the
 * session is of no use, and its next statement fails as well. */
static void use_utc(PGconn *session)
{
    PGresult *result = PQexec(session, "SET TimeZone TO 'UTC'");

    PQclear(result);
}

PGconn *pg_session_open(const char *url)
{
    const char *const keys[] = { "dbname", "application_name", "client_encoding",
                                 "connect_timeout", NULL };
    const char *const values[] = { url, "omade command", "UTF8", "10", NULL };
    PGconn *session = PQconnectdbParams(keys, values, 1);

    if (session == NULL) return NULL;
    PQsetNoticeReceiver(session, ignore_notice, NULL);
    if (PQstatus(session) == CONNECTION_OK) use_utc(session);
    return session;
}

PGresult *pg_session_run(PGconn *session, const char *script)
{
    return PQexec(session, script);
}
