/*
 * append.c
 *		Appending rows with their index entries, many at a time, as COPY does
 *		(copyfrom.c).  Table constraints and triggers are not looked at: for our
 *		own tables only, as long as they are as we made them (pristine.c).
 *
 * Rows wait in memory for the end, or for a statement that would miss them.
 * Such a statement may run in a subtransaction that is rolled back later.  So
 * rows that were written for it are kept until it is known that they stay.
 */
#include "postgres.h"

#include "access/brin_internal.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lwlock.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"

#include "shim.h"

/* The most rows and bytes that wait. */
#define MAX_ROWS 128
#define MAX_BYTES (256 * 1024)

struct MwAppender
{
	MemoryContext context;
	ResourceOwner owner;		/* of what stays open, whoever has rows written */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;		/* with all indexes */
	ResultRelInfo *fine;		/* with those that see each row */
	ResultRelInfo *coarse;		/* with the one that sees the extremes of a page */
	AttrNumber	coarse_key;		/* its column, or 0 */
	int			columns;		/* that come; those behind them were dropped */
	bool		calls_code;		/* of users, for index expressions */
	struct BulkInsertStateData *bulk;
	TupleTableSlot *rows[MAX_ROWS];
	TimestampTz keys[MAX_ROWS]; /* what the coarse index has of them */
	int			slots;			/* of rows[], that are made */
	int			waiting;		/* of those, that hold a row */
	Size		bytes;			/* of their data */
	int			written;		/* of those, that were written */
	SubTransactionId writer;	/* by which subtransaction */
};

/* The one that is open in this transaction, or NULL. */
static MwAppender *current = NULL;

/* Rows of other jobs could not be written within a statement. */
bool		mw_append_failed = false;

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

/*
 * The column of an index that keeps the least and the greatest time of many
 * pages, or 0 if it is of another kind.  Of the rows that come to a page at
 * once, such an index need see the extremes only.
 */
static AttrNumber
coarse_key(Relation rel, Relation index, int columns)
{
	AttrNumber	key = index->rd_index->indkey.values[0];

	if (index->rd_rel->relam == BRIN_AM_OID &&
		index->rd_index->indnatts == 1 &&
		key > 0 && key <= columns &&
		TupleDescAttr(RelationGetDescr(rel), key - 1)->atttypid == TIMESTAMPTZOID &&
		TupleDescAttr(RelationGetDescr(rel), key - 1)->attnotnull &&
		RelationGetIndexPredicate(index) == NIL &&
		index_getprocid(index, 1, BRIN_PROCNUM_OPCINFO) == F_BRIN_MINMAX_OPCINFO)
		return key;
	return 0;
}

/* The table without its indexes */
static ResultRelInfo *
without_indexes(const ResultRelInfo *result)
{
	ResultRelInfo *bare = makeNode(ResultRelInfo);
	int			indexes = result->ri_NumIndices;

	*bare = *result;
	bare->ri_NumIndices = 0;
	bare->ri_IndexRelationDescs = palloc(indexes * sizeof(Relation));
	bare->ri_IndexRelationInfo = palloc(indexes * sizeof(IndexInfo *));
	return bare;
}

/* Tells the indexes that see each row from one that sees the extremes */
static void
sort_indexes(MwAppender *appender)
{
	ResultRelInfo *all = appender->result;

	appender->fine = without_indexes(all);
	appender->coarse = without_indexes(all);
	for (int i = 0; i < all->ri_NumIndices; i++)
	{
		Relation	index = all->ri_IndexRelationDescs[i];
		IndexInfo  *info = all->ri_IndexRelationInfo[i];
		AttrNumber	key = appender->coarse_key == 0 ?
			coarse_key(appender->rel, index, appender->columns) : 0;
		ResultRelInfo *kind = key == 0 ? appender->fine : appender->coarse;

		if (key != 0)
			appender->coarse_key = key;
		kind->ri_IndexRelationDescs[kind->ri_NumIndices] = index;
		kind->ri_IndexRelationInfo[kind->ri_NumIndices] = info;
		kind->ri_NumIndices++;
		appender->calls_code |= info->ii_Expressions != NIL || info->ii_Predicate != NIL;
	}
}

/* A row that a deferrable constraint is to see again takes more than its index entry */
static bool
has_deferrable_index(const ResultRelInfo *result)
{
	for (int i = 0; i < result->ri_NumIndices; i++)
		if (!result->ri_IndexRelationDescs[i]->rd_index->indimmediate)
			return true;
	return false;
}

/*
 * Rows will be of so many columns of these types, the first ones of the table.
 * NULL if it is not as we made it; see mw_is_pristine().
 */
MwAppender *
mw_append_begin(Relation rel, const Oid *types, int columns, uint64 filled, const char *check)
{
	static bool registered = false;
	MemoryContext context;
	MemoryContext before;
	MwAppender *appender;

	if (!mw_is_pristine(rel, types, columns, filled, check))
		return NULL;
	context = AllocSetContextCreate(CurrentMemoryContext, "my_worker appender",
									ALLOCSET_DEFAULT_SIZES);
	before = MemoryContextSwitchTo(context);
	appender = palloc0(sizeof(MwAppender));
	mw_append_failed = false;
	if (!registered)
	{
		RegisterSubXactCallback(at_subtransaction_end, NULL);
		RegisterXactCallback(at_transaction_end, NULL);
		registered = true;
	}
	appender->columns = columns;
	appender->context = context;
	appender->owner = CurrentResourceOwner;
	appender->rel = rel;
	appender->estate = CreateExecutorState();
	appender->result = makeNode(ResultRelInfo);
	InitResultRelInfo(appender->result, rel, 1, NULL, 0);
	ExecOpenIndices(appender->result, false);
	if (has_deferrable_index(appender->result))
	{
		ExecCloseIndices(appender->result);
		FreeExecutorState(appender->estate);
		MemoryContextSwitchTo(before);
		MemoryContextDelete(context);
		return NULL;
	}
	sort_indexes(appender);
	appender->bulk = GetBulkInsertState();
	MemoryContextSwitchTo(before);
	current = appender;
	return appender;
}

static BlockNumber
block_of(const MwAppender *appender, int row)
{
	return ItemPointerGetBlockNumber(&appender->rows[row]->tts_tid);
}

static void
make_entries(MwAppender *appender, ResultRelInfo *indexes, int row)
{
	if (indexes->ri_NumIndices == 0)
		return;
	ExecInsertIndexTuples(indexes, appender->rows[row], appender->estate, false, false, NULL, NIL
#if PG_VERSION_NUM >= 160000
						  ,false
#endif
		);
	ResetPerTupleExprContext(appender->estate);
}

/*
 * The coarse index's entries of rows that came to one page.  It sees the
 * first row of a page, too, with which it notices that a range is full
 * (brininsert).
 */
static void
make_coarse_entries(MwAppender *appender, int from, int end)
{
	const TimestampTz *keys = appender->keys;
	int			least = from;
	int			greatest = from;

	for (int row = from + 1; row < end; row++)
	{
		if (keys[row] < keys[least])
			least = row;
		if (keys[row] > keys[greatest])
			greatest = row;
	}
	make_entries(appender, appender->coarse, from);
	if (least != from)
		make_entries(appender, appender->coarse, least);
	if (greatest != from)
		make_entries(appender, appender->coarse, greatest);
}

/* What index expressions call runs as in a statement of the owner: see identity::as_owner */
static void
become_owner(const MwAppender *appender, Oid *role, int *context, int *level)
{
	*level = -1;
	if (!appender->calls_code)
		return;
	GetUserIdAndSecContext(role, context);
	*level = NewGUCNestLevel();
	SetUserIdAndSecContext(appender->rel->rd_rel->relowner, *context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* After an error the end of the (sub)transaction does it. */
static void
become_self(Oid role, int context, int level)
{
	if (level < 0)
		return;
	AtEOXact_GUC(false, level);
	SetUserIdAndSecContext(role, context);
}

/*
 * As of the transaction's first command, so that a statement whose snapshot
 * was taken before sees the rows.
 */
static void
write_rows(MwAppender *appender)
{
	int			count = appender->waiting - appender->written;
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext before;
	Oid			role;
	int			security;
	int			level;

	if (count == 0)
		return;
	become_owner(appender, &role, &security, &level);
	(void) GetCurrentCommandId(true);
	CurrentResourceOwner = appender->owner;
	before = MemoryContextSwitchTo(GetPerTupleMemoryContext(appender->estate));
	table_multi_insert(appender->rel, appender->rows + appender->written, count, FirstCommandId, 0,
					   appender->bulk);
	MemoryContextSwitchTo(before);
	for (int row = appender->written, page = row; row < appender->waiting; row++)
	{
		make_entries(appender, appender->fine, row);
		if (row + 1 == appender->waiting || block_of(appender, row + 1) != block_of(appender, page))
		{
			make_coarse_entries(appender, page, row + 1);
			page = row + 1;
		}
	}
	become_self(role, security, level);
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
	memcpy(slot->tts_values, values, appender->columns * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, appender->columns * sizeof(bool));
	for (int i = appender->columns; i < desc->natts; i++)
		slot->tts_isnull[i] = true;
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	slot->tts_tableOid = RelationGetRelid(appender->rel);
	if (appender->coarse_key != 0)
		appender->keys[appender->waiting] =
			DatumGetTimestampTz(values[appender->coarse_key - 1]);
	appender->bytes += ExecFetchSlotHeapTuple(slot, false, NULL)->t_len;
	appender->waiting++;
	if (appender->waiting == MAX_ROWS || appender->bytes >= MAX_BYTES)
		finish(appender);
}

/*
 * Writes what waits for a statement that reads the table.  Within a parallel
 * one nothing can be written any more, so that is done before it starts,
 * whatever it names: its functions may read the table, too.
 */
void
mw_append_show(PlannedStmt *statement)
{
	ListCell   *cell;

	if (current == NULL || current->written == current->waiting || IsInParallelMode())
		return;
	if (statement->commandType != CMD_UTILITY && !statement->parallelModeNeeded)
	{
		bool		named = false;

		foreach(cell, statement->rtable)
			named |= lfirst_node(RangeTblEntry, cell)->relid == RelationGetRelid(current->rel);
		if (!named)
			return;
	}
	mw_append_failed = true;
	write_rows(current);
	mw_append_failed = false;
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
