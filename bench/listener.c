/*
 * A consumer by LISTEN/NOTIFY with nothing around it, the bound of any other in the scenario `latency`:
 * sleeps on its socket, takes what it was told by one DELETE, and has a job to start when that has
 * answered. One connection, prepared statements, all notifications that are there in one go; like ours it
 * takes, works and finishes in one transaction, whose BEGIN costs no round trip of its own. Ends when it is
 * told "stop".
 *
 * "listener receive" is a consumer of ours instead: it waits in receive(), notes and acknowledges; a job of the kind
 * "stop" ends it.
 *
 * "listener read" only reads what it is told: what NOTIFY costs in use without what a consumer does then.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static PGconn *conn;

static void
fail(void)
{
	fprintf(stderr, "%s", PQerrorMessage(conn));
	exit(1);
}

static void
need(int done)
{
	if (!done)
		fail();
}

static void
prepare(const char *name, const char *query)
{
	PGresult   *result = PQprepare(conn, name, query, 0, NULL);

	need(PQresultStatus(result) == PGRES_COMMAND_OK);
	PQclear(result);
}

/* The result of the next statement of the pipeline. */
static PGresult *
next_result(ExecStatusType expected)
{
	PGresult   *result = PQgetResult(conn);

	need(PQresultStatus(result) == expected);
	if (expected != PGRES_PIPELINE_SYNC)
		need(PQgetResult(conn) == NULL);
	return result;
}

/* Takes the jobs of these ids, and notes when they could start. */
static void
take(const char *ids)
{
	static char commits[1 << 22];
	char		started[32];
	const char *values[] = {ids},
			   *notes[] = {started, commits};
	struct timespec now;
	PGresult   *jobs;
	size_t		used = 0;

	need(PQenterPipelineMode(conn));
	need(PQsendQueryPrepared(conn, "begin", 0, NULL, NULL, NULL, 0));
	need(PQsendQueryPrepared(conn, "take", 1, values, NULL, NULL, 0));
	need(PQpipelineSync(conn));
	PQclear(next_result(PGRES_COMMAND_OK));
	jobs = next_result(PGRES_TUPLES_OK);
	clock_gettime(CLOCK_REALTIME, &now);
	PQclear(next_result(PGRES_PIPELINE_SYNC));

	snprintf(started, sizeof(started), "%lld.%06ld", (long long) now.tv_sec, now.tv_nsec / 1000);
	for (int i = 0; i < PQntuples(jobs) && used < sizeof(commits) - 64; i++)
		used += (size_t) snprintf(commits + used, sizeof(commits) - used, "%c\"%.40s\"", used ? ',' : '{', PQgetvalue(jobs, i, 1));
	strcpy(commits + used, used ? "}" : "{}");
	PQclear(jobs);
	need(PQsendQueryPrepared(conn, "note", 2, notes, NULL, NULL, 0));
	need(PQsendQueryPrepared(conn, "commit", 0, NULL, NULL, NULL, 0));
	need(PQpipelineSync(conn));
	PQclear(next_result(PGRES_COMMAND_OK));
	PQclear(next_result(PGRES_COMMAND_OK));
	PQclear(next_result(PGRES_PIPELINE_SYNC));
	need(PQexitPipelineMode(conn));
}

/* Appends an element to an array's text. */
static void
append(char *array, const char *element)
{
	size_t		used = strlen(array);

	if (used < (1 << 20) - 64)
		snprintf(array + used, 64, "%c%.40s", used ? ',' : '{', element);
}

static int
receive(void)
{
	static char ids[1 << 20],
				leases[1 << 20];
	char		started[32];
	const char *notes[] = {started, ids},
			   *acks[] = {ids, leases};
	int			stop = 0;

	prepare("begin", "BEGIN");
	prepare("commit", "COMMIT");
	prepare("receive", "SELECT id, lease, kind FROM my_worker.receive('consumed', 100, '5 s')");
	prepare("note", "INSERT INTO bench.starts (what, committed, started) "
			"SELECT 'receive', pg_xact_commit_timestamp(xmin), to_timestamp($1) FROM my_worker._jobs WHERE id = ANY ($2::bigint[])");
	prepare("ack", "SELECT my_worker.ack_many($1, $2)");
	puts("ready");
	fflush(stdout);
	while (!stop)
	{
		PGresult   *jobs = PQexecPrepared(conn, "receive", 0, NULL, NULL, NULL, 0);
		struct timespec now;

		clock_gettime(CLOCK_REALTIME, &now);
		need(PQresultStatus(jobs) == PGRES_TUPLES_OK);
		ids[0] = leases[0] = '\0';
		for (int i = 0; i < PQntuples(jobs); i++)
		{
			append(ids, PQgetvalue(jobs, i, 0));
			append(leases, PQgetvalue(jobs, i, 1));
			stop |= strcmp(PQgetvalue(jobs, i, 2), "stop") == 0;
		}
		PQclear(jobs);
		if (!ids[0])
			continue;
		strcat(ids, "}");
		strcat(leases, "}");
		snprintf(started, sizeof(started), "%lld.%06ld", (long long) now.tv_sec, now.tv_nsec / 1000);
		need(PQenterPipelineMode(conn));
		need(PQsendQueryPrepared(conn, "begin", 0, NULL, NULL, NULL, 0));
		if (!stop)
			need(PQsendQueryPrepared(conn, "note", 2, notes, NULL, NULL, 0));
		need(PQsendQueryPrepared(conn, "ack", 2, acks, NULL, NULL, 0));
		need(PQsendQueryPrepared(conn, "commit", 0, NULL, NULL, NULL, 0));
		need(PQpipelineSync(conn));
		PQclear(next_result(PGRES_COMMAND_OK));
		if (!stop)
			PQclear(next_result(PGRES_COMMAND_OK));
		PQclear(next_result(PGRES_TUPLES_OK));
		PQclear(next_result(PGRES_COMMAND_OK));
		PQclear(next_result(PGRES_PIPELINE_SYNC));
		need(PQexitPipelineMode(conn));
	}
	PQfinish(conn);
	return 0;
}

int
main(int argc, char **argv)
{
	int			takes = argc < 2 || strcmp(argv[1], "read") != 0;
	struct pollfd sock = {.events = POLLIN};
	int			stop = 0;
	PGresult   *result;

	conn = PQconnectdb("");
	need(PQstatus(conn) == CONNECTION_OK);
	if (argc > 1 && strcmp(argv[1], "receive") == 0)
		return receive();
	prepare("begin", "BEGIN");
	prepare("commit", "COMMIT");
	prepare("take", "DELETE FROM bench.jobs WHERE id = ANY ($1::bigint[]) RETURNING payload, pg_xact_commit_timestamp(xmin)");
	prepare("note", "INSERT INTO bench.starts (what, committed, started) "
			"SELECT 'listener', c, to_timestamp($1) FROM unnest($2::timestamptz[]) AS c");
	result = PQexec(conn, "LISTEN bench");
	need(PQresultStatus(result) == PGRES_COMMAND_OK);
	PQclear(result);
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
			strcpy(ids + used, "}");
			take(ids);
		}
		else if (!stop && (poll(&sock, 1, -1) < 0 || !PQconsumeInput(conn)))
			fail();
	}
	PQfinish(conn);
	return 0;
}
