/*
 * bounded.c
 *		Index scans that end in time: whatever stands in an index, also a million
 *		entries of rows that are gone, a step over it takes a bounded time.  And scans
 *		of a whole table.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relscan.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "storage/lwlock.h"
#include "utils/datum.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

#include "shim.h"

/* Starts a scan in index order that keeps each entry, for mw_bounded_value. */
IndexScanDesc
mw_bounded_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	IndexScanDesc scan = index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	IndexScanDesc scan = index_beginscan(heap, index, snapshot, nkeys, 0);
#endif

	scan->xs_want_itup = true;
	return scan;
}

/*
 * The next visible row, as index_getnext_slot: 1 if it is in the slot, 0 at the
 * end.  Each entry takes one from *budget; -1 if that is spent.
 */
int
mw_bounded_next(IndexScanDesc scan, TupleTableSlot *slot, int64 *budget)
{
	for (;;)
	{
		if (!scan->xs_heap_continue)
		{
			if (*budget <= 0)
				return -1;
			*budget -= 1;
			if (index_getnext_tid(scan, ForwardScanDirection) == NULL)
				return 0;
		}
		if (index_fetch_heap(scan, slot))
			return 1;
	}
}

/* A column of the entry that the scan is at, of a type that is passed by value; NULL if it is at none. */
Datum
mw_bounded_value(IndexScanDesc scan, int attno, bool *isnull)
{
	*isnull = true;
	if (scan->xs_itup == NULL)
		return (Datum) 0;
	return index_getattr(scan->xs_itup, attno, scan->xs_itupdesc, isnull);
}

/*
 * The first columns of the first entry, whether its row is visible or not, copied
 * into the current context.  False if there is no entry.
 */
bool
mw_first_entry(Relation heap, Relation index, Snapshot snapshot, ScanKey keys, int nkeys,
			   NullableDatum *values, int count)
{
	IndexScanDesc scan = mw_bounded_beginscan(heap, index, snapshot, nkeys);
	bool		found;

	index_rescan(scan, keys, nkeys, NULL, 0);
	found = index_getnext_tid(scan, ForwardScanDirection) != NULL;
	for (int i = 0; found && i < count; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(scan->xs_itupdesc, i);

		values[i].value = index_getattr(scan->xs_itup, i + 1, scan->xs_itupdesc, &values[i].isnull);
		if (!values[i].isnull)
			values[i].value = datumCopy(values[i].value, attribute->attbyval, attribute->attlen);
	}
	index_endscan(scan);
	return found;
}

/* ---- all rows of a table, one after the other ---- */

/* DELETE of one row version by the current command, if nobody has it.  Returns the TM_Result. */
int
mw_delete_free_row(Relation rel, ItemPointer tid, Snapshot snapshot)
{
	TM_FailureData failure;

	return table_tuple_delete(rel, tid, GetCurrentCommandId(true), snapshot, InvalidSnapshot,
							  false, &failure, false);
}

/* Whether somebody wants to hear of deletes: such a table is for statements. */
bool
mw_has_delete_triggers(Relation rel)
{
	TriggerDesc *triggers = rel->trigdesc;

	return triggers != NULL &&
		(triggers->trig_delete_before_row || triggers->trig_delete_after_row ||
		 triggers->trig_delete_before_statement || triggers->trig_delete_after_statement ||
		 triggers->trig_delete_old_table);
}

TableScanDesc
mw_table_beginscan(Relation rel, Snapshot snapshot)
{
	return table_beginscan(rel, snapshot, 0, NULL);
}

bool
mw_table_next(TableScanDesc scan, TupleTableSlot *slot)
{
	CHECK_FOR_INTERRUPTS();
	return table_scan_getnextslot(scan, ForwardScanDirection, slot);
}

void
mw_table_endscan(TableScanDesc scan)
{
	table_endscan(scan);
}
