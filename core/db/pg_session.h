/* pg_session.h -- one blocking connection for commands of the command line: SQL scripts
 * of several statements, one transaction after the other.  Never for the server. */
#ifndef DB_PG_SESSION_H
#define DB_PG_SESSION_H

#include <libpq-fe.h>

#include "base/check.h"

/* Connects, in UTC and UTF-8; NULL: no memory.  Look at PQstatus and PQerrorMessage. */
MUST_CHECK PGconn *pg_session_open(const char *url);

/* Runs all statements of 'script' (the simple protocol: outside of BEGIN they are one
 * transaction) and returns the last result, or the first that failed. */
MUST_CHECK PGresult *pg_session_run(PGconn *session, const char *script);

#endif
