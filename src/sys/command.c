/*
 * command.c
 *		Running SQL text at top level, as the simple query protocol does it.
 *
 * The statements of one text share an implicit transaction, unless they say
 * otherwise themselves; a single one may be VACUUM or CALL of a procedure that
 * commits.  What they return goes nowhere: the receiver drops rows unformatted.
 * Compare exec_simple_query() in tcop/postgres.c.  A caught ERROR leaves the
 * transaction to mw_command_abort().
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/xact.h"
#include "commands/discard.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "pgstat.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "tcop/cmdtag.h"
#include "tcop/dest.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "shim.h"

/* Without a client there is nothing to copy from or to but the server's own files. */
static void
refuse_client_copy(Node *statement)
{
	CopyStmt   *copy = (CopyStmt *) statement;

	if (IsA(statement, CopyStmt) && copy->filename == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot execute COPY %s within a background process",
						copy->is_from ? "FROM STDIN" : "TO STDOUT"),
				 errhint("A job has no client; use a file, a program or INSERT.")));
}

static List *
analyze_and_plan(RawStmt *statement, const char *sql)
{
	List	   *queries;
	List	   *plans;
	bool		snapshot = analyze_requires_snapshot(statement);

	if (snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
	queries = pg_analyze_and_rewrite_fixedparams(statement, sql, NULL, 0, NULL);
	plans = pg_plan_queries(queries, sql, CURSOR_OPT_PARALLEL_OK, NULL);
	if (snapshot)
		PopActiveSnapshot();
	return plans;
}

static void
run_portal(RawStmt *statement, const char *sql, List *plans, QueryCompletion *completion)
{
	Portal		portal = CreatePortal("", true, true);
	DestReceiver *receiver = CreateDestReceiver(DestNone);

	portal->visible = false;
	PortalDefineQuery(portal, NULL, sql, CreateCommandTag(statement->stmt), plans, NULL);
	PortalStart(portal, NULL, 0, InvalidSnapshot);
	MemoryContextSwitchTo(CurTransactionContext);
#if PG_VERSION_NUM >= 180000
	(void) PortalRun(portal, FETCH_ALL, true, receiver, receiver, completion);
#else
	(void) PortalRun(portal, FETCH_ALL, true, true, receiver, receiver, completion);
#endif
	receiver->rDestroy(receiver);
	PortalDrop(portal, false);
}

/*
 * statement_timeout is of one statement and may be set by the one before; attempt_end,
 * unless 0, is the end of them all.
 */
static void
limit_statement(TimestampTz attempt_end)
{
	TimestampTz end = attempt_end;

	if (StatementTimeout > 0)
	{
		end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), StatementTimeout);
		if (attempt_end != 0 && attempt_end < end)
			end = attempt_end;
	}
	if (end != 0)
		enable_timeout_at(STATEMENT_TIMEOUT, end);
	else
		disable_timeout(STATEMENT_TIMEOUT, false);
}

static void
run_statement(RawStmt *statement, const char *sql, bool implicit_block, MemoryContext context,
			  QueryCompletion *completion)
{
	List	   *plans;

	refuse_client_copy(statement->stmt);
	if (IsAbortedTransactionBlockState() && !IsA(statement->stmt, TransactionStmt))
		ereport(ERROR,
				(errcode(ERRCODE_IN_FAILED_SQL_TRANSACTION),
				 errmsg("current transaction is aborted, "
						"commands ignored until end of transaction block")));
	pgstat_report_query_id(0, true);
	if (!IsTransactionState())
		StartTransactionCommand();
	if (implicit_block)
		BeginImplicitTransactionBlock();
	CHECK_FOR_INTERRUPTS();
	mw_keep_hold();

	/* Plans outlive a COMMIT within the text. */
	MemoryContextSwitchTo(context);
	plans = analyze_and_plan(statement, sql);
	run_portal(statement, sql, plans, completion);
}

/* BuildQueryCompletionString(), which 15 does not have */
static void
describe(const QueryCompletion *completion, char *tag)
{
	const char *name = GetCommandTagName(completion->commandTag);

	if (completion->commandTag == CMDTAG_INSERT)
		snprintf(tag, COMPLETION_TAG_BUFSIZE, "%s 0 " UINT64_FORMAT, name, completion->nprocessed);
	else if (command_tag_display_rowcount(completion->commandTag))
		snprintf(tag, COMPLETION_TAG_BUFSIZE, "%s " UINT64_FORMAT, name, completion->nprocessed);
	else
		strlcpy(tag, name, COMPLETION_TAG_BUFSIZE);
}

/*
 * Runs all of the text, outside a transaction, in at most `timeout_ms` (0: any time).
 * Log lines have `label` as their statement.
 * The tag of the last statement ("UPDATE 5", "VACUUM") goes into `tag`, which has
 * COMPLETION_TAG_BUFSIZE bytes.
 */
void
mw_command_run(const char *sql, const char *label, MemoryContext context, int timeout_ms,
			   char *tag)
{
	MemoryContext message_context = MessageContext;
	TimestampTz attempt_end = 0;
	List	   *statements;
	ListCell   *cell;
	QueryCompletion completion;

	*tag = '\0';
	MessageContext = context;
	debug_query_string = label;
	SetCurrentStatementStartTimestamp();
	if (timeout_ms > 0)
		attempt_end = TimestampTzPlusMilliseconds(GetCurrentStatementStartTimestamp(), timeout_ms);
	StartTransactionCommand();
	MemoryContextSwitchTo(context);
	statements = pg_parse_query(sql);

	InitializeQueryCompletion(&completion);
	foreach(cell, statements)
	{
		RawStmt    *statement = lfirst_node(RawStmt, cell);
		bool		implicit_block = list_length(statements) > 1;
		bool		last = lnext(statements, cell) == NULL;
		MemoryContext plan_context = context;

		/* A long script must not pile up the plans of all its statements. */
		if (!last)
			plan_context = AllocSetContextCreate(context, "my_worker statement",
												 ALLOCSET_DEFAULT_SIZES);
		InitializeQueryCompletion(&completion);
		limit_statement(attempt_end);
		run_statement(statement, sql, implicit_block, plan_context, &completion);
		if (last && implicit_block)
			EndImplicitTransactionBlock();
		if (last || IsA(statement->stmt, TransactionStmt))
			CommitTransactionCommand();
		else
			CommandCounterIncrement();
		MemoryContextSwitchTo(context);
		if (!last)
			MemoryContextDelete(plan_context);
	}
	if (statements == NIL)
		CommitTransactionCommand();
	disable_timeout(STATEMENT_TIMEOUT, false);
	debug_query_string = NULL;
	MessageContext = message_context;

	if (IsTransactionBlock())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("command left a transaction open"),
				 errhint("End it with COMMIT.")));
	if (statements != NIL)
		describe(&completion, tag);
}

/* Ends whatever transaction an error or an open BEGIN left. */
void
mw_command_abort(void)
{
	debug_query_string = NULL;
	disable_timeout(STATEMENT_TIMEOUT, false);
	AbortOutOfAnyTransaction();
}

/* DISCARD ALL, outside a transaction */
void
mw_discard_all(void)
{
	DiscardStmt *statement = makeNode(DiscardStmt);

	statement->target = DISCARD_ALL;
	StartTransactionCommand();
	/* dropping temporary tables may fetch toasted catalog values */
	PushActiveSnapshot(GetTransactionSnapshot());
	DiscardCommand(statement, true);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* ---- what statements change without a trace that could be read ---- */

bool		mw_constraints_set = false;
static ProcessUtility_hook_type next_utility_hook = NULL;

static void
on_utility(PlannedStmt *statement, const char *sql, bool read_only_tree,
		   ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
		   DestReceiver *receiver, QueryCompletion *completion)
{
	if (IsA(statement->utilityStmt, ConstraintsSetStmt))
		mw_constraints_set = true;
	if (next_utility_hook)
		next_utility_hook(statement, sql, read_only_tree, context, params, environment,
						  receiver, completion);
	else
		standard_ProcessUtility(statement, sql, read_only_tree, context, params, environment,
								receiver, completion);
}

/* From here on SET CONSTRAINTS sets mw_constraints_set.  Once a process. */
void
mw_watch_constraints(void)
{
	next_utility_hook = ProcessUtility_hook;
	ProcessUtility_hook = on_utility;
}
