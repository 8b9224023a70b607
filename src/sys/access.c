/*
 * access.c
 *		Rows of tables and trees of statements.  This is C because it calls inline
 *		functions and macros of the server, which have no symbol, some of which
 *		differ between majors; and because one reads a page under its lock.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "port/pg_bitutils.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "shim.h"

/*
 * Reads all columns of a row that has each of them, as ours have: most are NULL.
 * The server's own way (slot_deform_heap_tuple) takes three times as long.
 */
static void
read_columns(HeapTupleHeader row, const MwStored *columns, int count, Datum *values, bool *nulls)
{
	char	   *data = (char *) row + row->t_hoff;
	uint64		there = PG_UINT64_MAX >> (64 - count);	/* bits of those that are not NULL */

	memset(values, 0, count * sizeof(Datum));
	memset(nulls, true, count * sizeof(bool));
	if ((row->t_infomask & HEAP_HASNULL) != 0)
	{
		there = 0;
		for (int i = 0; i < BITMAPLEN(count); i++)
			there |= (uint64) row->t_bits[i] << (i * BITS_PER_BYTE);
	}
	for (; there != 0; there &= there - 1)
	{
		int			i = pg_rightmost_one_pos64(there);

		nulls[i] = false;
		switch (columns[i].length)
		{
			case 1:
				values[i] = CharGetDatum(*data);
				break;
			case 4:
				data = (char *) TYPEALIGN(4, data);
				values[i] = Int32GetDatum(*(int32 *) data);
				break;
			case 8:
				data = (char *) TYPEALIGN(8, data);
				values[i] = Int64GetDatum(*(int64 *) data);
				break;
			default:
				/* What is of any length may begin with a short header, which is not aligned */
				if (columns[i].length != 0 || !VARATT_NOT_PAD_BYTE(data))
					data = (char *) TYPEALIGN(columns[i].alignment, data);
				values[i] = PointerGetDatum(data);
				if (columns[i].length == 0)
					data += VARSIZE_ANY(data);
		}
		data += columns[i].length;
	}
}

/* Rows that are older than a column of their table lack it, and owners may add columns to it */
static bool
has_just(HeapTupleHeader row, TupleDesc desc, int count)
{
	return desc->natts == count && HeapTupleHeaderGetNatts(row) == count &&
		count <= MW_STORED_COLUMNS;
}

/* Has the columns of a slot's row at hand, up to that one: all, if there are just so many */
void
mw_slot_read(TupleTableSlot *slot, int column, const MwStored *columns, int count)
{
	HeapTupleHeader row;

	if (slot->tts_nvalid == 0 && TTS_IS_BUFFERTUPLE(slot))
	{
		row = ((BufferHeapTupleTableSlot *) slot)->base.tuple->t_data;
		if (has_just(row, slot->tts_tupleDescriptor, count))
		{
			read_columns(row, columns, count, slot->tts_values, slot->tts_isnull);
			slot->tts_nvalid = count;
			return;
		}
	}
	slot_getsomeattrs(slot, column);
}

/* A copy of the row and of its columns, in one piece of memory */
HeapTuple
mw_copy_row(TupleTableSlot *slot, const MwStored *columns, int count, Datum **values, bool **nulls)
{
	HeapTuple	from = ExecFetchSlotHeapTuple(slot, false, NULL);
	TupleDesc	desc = slot->tts_tupleDescriptor;
	Size		size = MAXALIGN(HEAPTUPLESIZE + from->t_len);
	char	   *room = palloc(size + desc->natts * (sizeof(Datum) + sizeof(bool)));
	HeapTuple	row = (HeapTuple) room;

	*row = *from;
	row->t_data = (HeapTupleHeader) (room + HEAPTUPLESIZE);
	memcpy(row->t_data, from->t_data, from->t_len);
	*values = (Datum *) (room + size);
	*nulls = (bool *) (*values + desc->natts);
	if (has_just(row->t_data, desc, count))
		read_columns(row->t_data, columns, count, *values, *nulls);
	else
		heap_deform_tuple(row, desc, *values, *nulls);
	return row;
}

Datum
mw_tuple_attr(HeapTuple tuple, int attno, TupleDesc desc, bool *isnull)
{
	return heap_getattr(tuple, attno, desc, isnull);
}

Datum
mw_index_attr(IndexTuple tuple, int attno, TupleDesc desc, bool *isnull)
{
	return index_getattr(tuple, attno, desc, isnull);
}

Form_pg_attribute
mw_attribute(TupleDesc desc, int index)
{
	return TupleDescAttr(desc, index);
}

/*
 * Reads what stands at a place, of whatever transaction; false if that is no row.  The
 * slot keeps the page pinned, so nobody takes the row away from under it.  The table is
 * locked, so it does not get fewer pages than it is known to have.
 */
bool
mw_fetch_row(Relation rel, ItemPointer tid, BlockNumber *pages, TupleTableSlot *slot)
{
	BlockNumber block = ItemPointerGetBlockNumber(tid);

	/* A table that was rewritten or truncated has fewer pages */
	if (block >= *pages)
		*pages = RelationGetNumberOfBlocks(rel);
	return block < *pages && table_tuple_fetch_row_version(rel, tid, SnapshotAny, slot);
}

/*
 * SELECT ... FOR UPDATE SKIP LOCKED of one row version, which must be there:
 * heap_lock_tuple() only asserts that.  Returns the TM_Result.
 */
int
mw_lock_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	TM_FailureData failure;

	return table_tuple_lock(rel, tid, snapshot, slot, FirstCommandId, LockTupleExclusive,
							LockWaitSkip, 0, &failure);
}

/* DELETE of one row version as of a command.  Returns the TM_Result. */
int
mw_delete_row(Relation rel, ItemPointer tid, Snapshot snapshot, CommandId command, bool wait)
{
	TM_FailureData failure;

#if PG_VERSION_NUM >= 190000
	return table_tuple_delete(rel, tid, command, 0, snapshot, InvalidSnapshot, wait, &failure);
#else
	return table_tuple_delete(rel, tid, command, snapshot, InvalidSnapshot, wait, &failure, false);
#endif
}

/*
 * The transaction, or multixact, that has locked, changed or deleted a row version;
 * InvalidTransactionId if there is none.  is_replaced: there is a newer version.
 */
TransactionId
mw_row_xmax(Relation rel, ItemPointer tid, bool *is_multi, bool *only_locked, bool *is_replaced)
{
	HeapTupleData tuple = {.t_self = *tid};
	TransactionId xmax;
	Buffer		buffer;
	uint16		infomask;

	if (!heap_fetch(rel, SnapshotAny, &tuple, &buffer, false))
		return InvalidTransactionId;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	infomask = tuple.t_data->t_infomask;
	xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);
	*is_replaced = !ItemPointerEquals(&tuple.t_self, &tuple.t_data->t_ctid);
	UnlockReleaseBuffer(buffer);

	if (infomask & HEAP_XMAX_INVALID || HEAP_LOCKED_UPGRADED(infomask))
		return InvalidTransactionId;
	*is_multi = (infomask & HEAP_XMAX_IS_MULTI) != 0;
	*only_locked = HEAP_XMAX_IS_LOCKED_ONLY(infomask);
	return xmax;
}

/* A page that is pinned, for reading. */
void
mw_lock_buffer(Buffer buffer)
{
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
}

struct TableScanDescData *
mw_table_beginscan(Relation rel, Snapshot snapshot)
{
#if PG_VERSION_NUM >= 190000
	return table_beginscan(rel, snapshot, 0, NULL, SO_NONE);
#else
	return table_beginscan(rel, snapshot, 0, NULL);
#endif
}

bool
mw_table_next(struct TableScanDescData *scan, TupleTableSlot *slot)
{
	CHECK_FOR_INTERRUPTS();
	return table_scan_getnextslot(scan, ForwardScanDirection, slot);
}

void
mw_table_endscan(struct TableScanDescData *scan)
{
	table_endscan(scan);
}

bool
mw_walk(Node *node, bool (*walker) (Node *node, void *context), void *context)
{
	return expression_tree_walker(node, walker, context);
}

bool
mw_walk_query(Query *query, bool (*walker) (Node *node, void *context), void *context)
{
	return query_tree_walker(query, walker, context, QTW_IGNORE_JOINALIASES);
}

/*
 * The next of the tables that a statement is to change, by its place among all of
 * its tables, from 1 on; 0 if there is none.  The position begins as 0.
 */
int
mw_next_changed(const PlannedStmt *plan, int *position)
{
#if PG_VERSION_NUM >= 190000
	*position = Max(bms_next_member(plan->resultRelationRelids, *position), 0);
	return *position;
#else
	if (*position == list_length(plan->resultRelations))
		return 0;
	return list_nth_int(plan->resultRelations, (*position)++);
#endif
}
