/*
 * append.c
 *		Writes rows with their index entries: many at a time, as COPY does
 *		(copyfrom.c), for src/pg/append.rs, and at the end of this file single
 *		ones, for src/pg/shortcut.rs.  Looks at no constraints and triggers.
 *
 * This is C because it fills slots and writes by inline functions of the table
 * access method and the executor, which have no symbol, and differ between majors.
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
#include "utils/timestamp.h"

#include "shim.h"

struct MwAppender
{
	MemoryContext context;
	ResourceOwner owner;		/* of what stays open, whoever has rows written */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;		/* with all indexes */
	ResultRelInfo *seeing[MW_SEES_EXTREMES + 1];	/* with those that see such rows */
	AttrNumber	key;			/* the column of which extremes are seen, or 0 */
	int			count;			/* of columns that come; those behind them were dropped */
	struct BulkInsertStateData *bulk;
	TupleTableSlot *rows[MW_APPEND_ROWS];
	TimestampTz keys[MW_APPEND_ROWS];	/* that column of them */
	bool		few[MW_APPEND_ROWS];	/* whether they are among the few */
	int			slots;			/* of rows[], that are made */
};

/* For rows of so many columns, the first ones of the table; mw_append_sort() is next. */
MwAppender *
mw_append_begin(Relation rel, int count)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "my_worker appender",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext before = MemoryContextSwitchTo(context);
	MwAppender *appender = palloc0(sizeof(MwAppender));

	appender->count = count;
	appender->context = context;
	appender->owner = CurrentResourceOwner;
	appender->rel = rel;
	appender->estate = CreateExecutorState();
	appender->result = makeNode(ResultRelInfo);
	InitResultRelInfo(appender->result, rel, 1, NULL, 0);
	ExecOpenIndices(appender->result, false);
	appender->bulk = GetBulkInsertState();
	MemoryContextSwitchTo(before);
	return appender;
}

/* The table with all its indexes */
ResultRelInfo *
mw_append_indexes(MwAppender *appender)
{
	return appender->result;
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

/* Says of each index which rows it sees. */
void
mw_append_sort(MwAppender *appender, const uint8 *sees, AttrNumber key)
{
	MemoryContext before = MemoryContextSwitchTo(appender->context);
	ResultRelInfo *all = appender->result;

	appender->key = key;
	for (int i = 0; i <= MW_SEES_EXTREMES; i++)
		appender->seeing[i] = without_indexes(all);
	for (int i = 0; i < all->ri_NumIndices; i++)
	{
		ResultRelInfo *such = appender->seeing[sees[i]];

		such->ri_IndexRelationDescs[such->ri_NumIndices] = all->ri_IndexRelationDescs[i];
		such->ri_IndexRelationInfo[such->ri_NumIndices] = all->ri_IndexRelationInfo[i];
		such->ri_NumIndices++;
	}
	MemoryContextSwitchTo(before);
}

/* Has a row wait at that place, which is free.  Returns the length of its data. */
Size
mw_append_put(MwAppender *appender, int row, const Datum *values, const bool *nulls, bool few)
{
	TupleDesc	desc = RelationGetDescr(appender->rel);
	TupleTableSlot *slot;

	if (row == appender->slots)
	{
		MemoryContext before = MemoryContextSwitchTo(appender->context);

		appender->rows[row] =
			MakeSingleTupleTableSlot(desc, table_slot_callbacks(appender->rel));
		appender->slots++;
		MemoryContextSwitchTo(before);
	}
	slot = appender->rows[row];
	memcpy(slot->tts_values, values, appender->count * sizeof(Datum));
	memcpy(slot->tts_isnull, nulls, appender->count * sizeof(bool));
	for (int i = appender->count; i < desc->natts; i++)
		slot->tts_isnull[i] = true;
	ExecStoreVirtualTuple(slot);
	ExecMaterializeSlot(slot);
	slot->tts_tableOid = RelationGetRelid(appender->rel);
	appender->few[row] = few;
	if (appender->key != 0)
		appender->keys[row] = DatumGetTimestampTz(values[appender->key - 1]);
	return ExecFetchSlotHeapTuple(slot, false, NULL)->t_len;
}

static BlockNumber
block_of(const MwAppender *appender, int row)
{
	return ItemPointerGetBlockNumber(&appender->rows[row]->tts_tid);
}

/* No index is deferrable, so no row is to be checked again. */
static void
insert_entries(ResultRelInfo *indexes, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 190000
	ExecInsertIndexTuples(indexes, estate, 0, slot, NIL, NULL);
#elif PG_VERSION_NUM >= 160000
	ExecInsertIndexTuples(indexes, slot, estate, false, false, NULL, NIL, false);
#else
	ExecInsertIndexTuples(indexes, slot, estate, false, false, NULL, NIL);
#endif
}

static void
make_entries(MwAppender *appender, int sees, int row)
{
	ResultRelInfo *indexes = appender->seeing[sees];

	if (indexes->ri_NumIndices == 0)
		return;
	insert_entries(indexes, appender->rows[row], appender->estate);
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
	int			least = from;
	int			greatest = from;

	for (int row = from + 1; row < end; row++)
	{
		if (appender->keys[row] < appender->keys[least])
			least = row;
		if (appender->keys[row] > appender->keys[greatest])
			greatest = row;
	}
	make_entries(appender, MW_SEES_EXTREMES, from);
	if (least != from)
		make_entries(appender, MW_SEES_EXTREMES, least);
	if (greatest != from)
		make_entries(appender, MW_SEES_EXTREMES, greatest);
}

/* Writes rows that wait, as of the transaction's first command. */
void
mw_append_write(MwAppender *appender, int from, int end)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext before;

	(void) GetCurrentCommandId(true);
	CurrentResourceOwner = appender->owner;
	before = MemoryContextSwitchTo(GetPerTupleMemoryContext(appender->estate));
	table_multi_insert(appender->rel, appender->rows + from, end - from, FirstCommandId, 0,
					   appender->bulk);
	MemoryContextSwitchTo(before);
	for (int row = from, page = row; row < end; row++)
	{
		make_entries(appender, MW_SEES_EACH, row);
		if (appender->few[row])
			make_entries(appender, MW_SEES_FEW, row);
		if (row + 1 == end || block_of(appender, row + 1) != block_of(appender, page))
		{
			make_coarse_entries(appender, page, row + 1);
			page = row + 1;
		}
	}
	CurrentResourceOwner = owner;
}

/* Forgets the first rows. */
void
mw_append_forget(MwAppender *appender, int count)
{
	for (int i = 0; i < count; i++)
		ExecClearTuple(appender->rows[i]);
}

void
mw_append_end(MwAppender *appender)
{
	FreeBulkInsertState(appender->bulk);
	for (int i = 0; i < appender->slots; i++)
		ExecDropSingleTupleTableSlot(appender->rows[i]);
	ExecCloseIndices(appender->result);
	FreeExecutorState(appender->estate);
	MemoryContextDelete(appender->context);
}

/* Inserts a slot's row without any index entry */
void
mw_insert_bare(Relation rel, TupleTableSlot *slot, CommandId command)
{
	table_tuple_insert(rel, slot, command, 0, NULL);
}

/* The same with an entry in each index that is open, as ExecInsert does (nodeModifyTable.c) */
void
mw_insert_row(ResultRelInfo *result, TupleTableSlot *slot, EState *estate)
{
	mw_insert_bare(result->ri_RelationDesc, slot, estate->es_output_cid);
	insert_entries(result, slot, estate);
}
