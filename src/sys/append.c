/*
 * append.c
 *		Appending rows with their index entries, many at a time, as COPY does
 *		(copyfrom.c).  Table constraints and triggers are not looked at: for our
 *		own tables only.
 *
 * Rows wait in memory for the end, or for a statement that would miss them.
 * Such a statement may run in a subtransaction that is rolled back later.  So
 * rows that were written for it are kept until it is known that they stay.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"

#include "shim.h"

/* The most rows and bytes that wait. */
#define MAX_ROWS 500
#define MAX_BYTES (256 * 1024)

struct MwAppender
{
	MemoryContext context;
	ResourceOwner owner;		/* of what stays open, whoever has rows written */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;
	struct BulkInsertStateData *bulk;
	TupleTableSlot *rows[MAX_ROWS];
	int			slots;			/* of rows[], that are made */
	int			waiting;		/* of those, that hold a row */
	Size		bytes;			/* of their data */
	int			written;		/* of those, that were written */
	SubTransactionId writer;	/* by which subtransaction */
};

/* The one that is open in this transaction, or NULL. */
static MwAppender *current = NULL;

static void
at_subtransaction_end(SubXactEvent event, SubTransactionId id, SubTransactionId parent, void *arg)
{
	if (current == NULL || current->written == 0 || current->writer != id)
		return;
	if (event == SUBXACT_EVENT_COMMIT_SUB)
		current->writer = parent;
	else if (event == SUBXACT_EVENT_ABORT_SUB)
		current->written = 0;
}

static void
at_transaction_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		current = NULL;
}

MwAppender *
mw_append_begin(Relation rel)
{
	static bool registered = false;
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "my_worker appender",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	MwAppender *appender = palloc0(sizeof(MwAppender));

	if (!registered)
	{
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
	appender->context = context;
	appender->owner = CurrentResourceOwner;
	appender->rel = rel;
	appender->estate = CreateExecutorState();
	appender->result = makeNode(ResultRelInfo);
	InitResultRelInfo(appender->result, rel, 1, NULL, 0);
	ExecOpenIndices(appender->result, false);
	appender->bulk = GetBulkInsertState();
	MemoryContextSwitchTo(before);
	current = appender;
	return appender;
}

/*
 * As of the transaction's first command, so that a statement whose snapshot
 * was taken before sees the rows.
 */
static void
write_rows(MwAppender *appender)
{
	TupleTableSlot **rows = appender->rows + appender->written;
	int			count = appender->waiting - appender->written;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext before;

	if (count == 0)
		return;
	(void) GetCurrentCommandId(true);
	CurrentResourceOwner = appender->owner;
	before = MemoryContextSwitchTo(GetPerTupleMemoryContext(appender->estate));
	table_multi_insert(appender->rel, rows, count, FirstCommandId, 0, appender->bulk);
	MemoryContextSwitchTo(before);
	for (int i = 0; i < count && appender->result->ri_NumIndices > 0; i++)
	{
		ExecInsertIndexTuples(appender->result, rows[i], appender->estate, false, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
							  ,false
#endif
			);
		ResetPerTupleExprContext(appender->estate);
	}
	CurrentResourceOwner = owner;
	appender->written = appender->waiting;
	appender->writer = GetCurrentSubTransactionId();
}

/* Writes what waits, and forgets it: nothing but the transaction can undo it */
static void
finish(MwAppender *appender)
{
	write_rows(appender);
	for (int i = 0; i < appender->waiting; i++)
		ExecClearTuple(appender->rows[i]);
	appender->waiting = appender->written = 0;
	appender->bytes = 0;
}

void
mw_append_row(MwAppender *appender, const Datum *values, const bool *nulls)
{
	TupleDesc	desc = RelationGetDescr(appender->rel);
	TupleTableSlot *slot;

	/* written for a job that has ended well */
	if (appender->written > 0)
		finish(appender);
	if (appender->waiting == appender->slots)
	{
		MemoryContext before = MemoryContextSwitchTo(appender->context);

		appender->rows[appender->slots] =
			MakeSingleTupleTableSlot(desc, table_slot_callbacks(appender->rel));
		appender->slots++;
		MemoryContextSwitchTo(before);
	}
	slot = appender->rows[appender->waiting];
	memcpy(slot->tts_values, values, desc->natts * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, desc->natts * sizeof(bool));
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	slot->tts_tableOid = RelationGetRelid(appender->rel);
	appender->bytes += ExecFetchSlotHeapTuple(slot, false, NULL)->t_len;
	appender->waiting++;
	if (appender->waiting == MAX_ROWS || appender->bytes >= MAX_BYTES)
		finish(appender);
}

/* Writes what waits for a statement that reads the table */
void
mw_append_show(PlannedStmt *statement)
{
	ListCell   *cell;

	if (current == NULL || current->written == current->waiting)
		return;
	if (statement->commandType != CMD_UTILITY)
	{
		bool		named = false;

		foreach(cell, statement->rtable)
			named |= lfirst_node(RangeTblEntry, cell)->relid == RelationGetRelid(current->rel);
		if (!named)
			return;
	}
	write_rows(current);
}

void
mw_append_end(MwAppender *appender)
{
	finish(appender);
	current = NULL;
	FreeBulkInsertState(appender->bulk);
	for (int i = 0; i < appender->slots; i++)
		ExecDropSingleTupleTableSlot(appender->rows[i]);
	ExecCloseIndices(appender->result);
	FreeExecutorState(appender->estate);
	MemoryContextDelete(appender->context);
}
