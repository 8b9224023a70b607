/*
 * A consumer by LISTEN/NOTIFY with nothing around it, the bound of any other in the scenario `latency`:
 * sleeps on its socket, takes what it was told by one DELETE, and the server notes when. One connection,
 * a prepared statement, all notifications that are there in one go. Ends when it is told "stop".
 *
 * "listener read" only reads what it is told: what NOTIFY costs in use without what a consumer does then.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

static int
fail(PGconn *conn)
{
	fprintf(stderr, "%s", PQerrorMessage(conn));
	return 1;
}

int
main(int argc, char **argv)
{
	int			takes = argc < 2 || strcmp(argv[1], "read") != 0;
	PGconn	   *conn = PQconnectdb("");
	struct pollfd sock = {.events = POLLIN};
	int			stop = 0;

	if (PQstatus(conn) != CONNECTION_OK ||
		PQresultStatus(PQprepare(conn, "take",
								 "WITH j AS (DELETE FROM bench.jobs WHERE id = ANY ($1::bigint[]) RETURNING xmin) "
								 "INSERT INTO bench.starts (what, committed) "
								 "SELECT 'listener', pg_xact_commit_timestamp(xmin) FROM j", 0, NULL)) != PGRES_COMMAND_OK ||
		PQresultStatus(PQexec(conn, "LISTEN bench")) != PGRES_COMMAND_OK)
		return fail(conn);
	puts("ready");
	fflush(stdout);
	sock.fd = PQsocket(conn);

	while (!stop)
	{
		static char ids[1 << 20];
		size_t		used = 0;
		PGnotify   *told;

		while (used < sizeof(ids) - 64 && (told = PQnotifies(conn)) != NULL)
		{
			if (strcmp(told->extra, "stop") == 0)
				stop = 1;
			else if (takes)
				used += (size_t) snprintf(ids + used, sizeof(ids) - used, "%c%.20s", used ? ',' : '{', told->extra);
			PQfreemem(told);
		}
		if (used > 0)
		{
			const char *values[] = {ids};
			PGresult   *result;

			strcpy(ids + used, "}");
			result = PQexecPrepared(conn, "take", 1, values, NULL, NULL, 0);
			if (PQresultStatus(result) != PGRES_COMMAND_OK)
				return fail(conn);
			PQclear(result);
		}
		else if (!stop && (poll(&sock, 1, -1) < 0 || !PQconsumeInput(conn)))
			return fail(conn);
	}
	PQfinish(conn);
	return 0;
}
