/*
 * access.c
 *		Rows of tables, and calls of functions: inline functions and macros of
 *		the server by name, and what holds a buffer's lock.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/subtrans.h"
#include "access/xact.h"
#include "catalog/pg_proc.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"
#include "rewrite/rewriteHandler.h"
#include "storage/procarray.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "shim.h"

/* A column that a table does not have yet, as another version made it, is NULL. */
Datum
mw_slot_attr(TupleTableSlot *slot, int attno, bool *isnull)
{
	*isnull = true;
	if (attno > slot->tts_tupleDescriptor->natts)
		return (Datum) 0;
	return slot_getattr(slot, attno, isnull);
}

HeapTuple
mw_slot_copy(TupleTableSlot *slot)
{
	return ExecCopySlotHeapTuple(slot);
}

/*
 * SELECT ... FOR UPDATE SKIP LOCKED of one row version, without a plan.
 * Returns the TM_Result; TM_Ok leaves the row in the slot.
 *
 * Here and below the change is made as of the transaction's first command: a
 * row that a job of this transaction has changed is then reported, and not
 * taken for one that our scan must not have seen, which raises.
 */
int
mw_lock_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	TM_FailureData failure;

	(void) GetCurrentCommandId(true);
	return table_tuple_lock(rel, tid, snapshot, slot, FirstCommandId,
							LockTupleExclusive, LockWaitSkip, 0, &failure);
}

static bool
goes_on(TransactionId xid)
{
	return TransactionIdIsNormal(xid) && !TransactionIdIsCurrentTransactionId(xid) &&
		TransactionIdIsInProgress(xid);
}

/*
 * A transaction, other than this one, that has this row version locked, changed or
 * deleted; InvalidTransactionId if none has.  *pid is its process, 0 if it is prepared.
 */
TransactionId
mw_row_holder(Relation rel, ItemPointer tid, int *pid)
{
	TransactionId holder = InvalidTransactionId;
	TransactionId xmax;
	HeapTupleData tuple;
	Buffer		buffer;
	uint16		infomask;

	*pid = 0;
	tuple.t_self = *tid;
	if (!heap_fetch(rel, SnapshotAny, &tuple, &buffer, false))
		return InvalidTransactionId;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	infomask = tuple.t_data->t_infomask;
	xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);
	UnlockReleaseBuffer(buffer);

	if (infomask & HEAP_XMAX_INVALID || HEAP_LOCKED_UPGRADED(infomask))
		return InvalidTransactionId;
	if (infomask & HEAP_XMAX_IS_MULTI)
	{
		MultiXactMember *members;
		int			count = GetMultiXactIdMembers(xmax, &members, false,
												  HEAP_XMAX_IS_LOCKED_ONLY(infomask));

		for (int i = 0; i < count && holder == InvalidTransactionId; i++)
			if (goes_on(members[i].xid))
				holder = members[i].xid;
		if (count > 0)
			pfree(members);
	}
	else if (goes_on(xmax))
		holder = xmax;
	if (holder != InvalidTransactionId)
		*pid = BackendXidGetPid(SubTransGetTopmostTransaction(holder));
	return holder;
}

/* DELETE of one row version, without a plan.  Returns the TM_Result. */
int
mw_delete_row(Relation rel, ItemPointer tid, Snapshot snapshot)
{
	TM_FailureData failure;

	(void) GetCurrentCommandId(true);
	return table_tuple_delete(rel, tid, FirstCommandId, snapshot, InvalidSnapshot, true,
							  &failure, false);
}

/*
 * The same for many, up to one that cannot be had at once.  Returns how many.
 *
 * They are deleted as of the transaction's last command, so that this
 * transaction goes on seeing them (HeapTupleSatisfiesMVCC compares the cmax
 * with the snapshot's curcid).
 */
int
mw_delete_rows_unseen(Relation rel, ItemPointerData *tids, int count, Snapshot snapshot)
{
	TM_FailureData failure;
	int			done = 0;

	(void) GetCurrentCommandId(true);
	while (done < count &&
		   table_tuple_delete(rel, &tids[done], InvalidCommandId - 1, snapshot, InvalidSnapshot,
							  false, &failure, false) == TM_Ok)
		done++;
	return done;
}

Datum
mw_tuple_attr(HeapTuple tuple, int attno, TupleDesc desc, bool *isnull)
{
	return heap_getattr(tuple, attno, desc, isnull);
}

/*
 * Calls a function, outside of any query, and fires what it has deferred.  No
 * event of an outer transaction level may wait: AfterTriggerFireDeferred()
 * frees events, which a rollback to that level would bring back (trigger.c).
 */
Datum
mw_call(FmgrInfo *function, int nargs, const Datum *args, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, 4);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, function, nargs, InvalidOid, NULL, NULL);
	for (int i = 0; i < nargs && i < 4; i++)
	{
		fcinfo->args[i].value = args[i];
		fcinfo->args[i].isnull = false;
	}
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	AfterTriggerFireDeferred();
	return result;
}

/* ---- relations behind a view: the server's walker takes a C function ---- */

static bool
find_relations(Node *node, List **found)
{
	Query	   *query = (Query *) node;
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, find_relations, found);
	check_stack_depth();
	foreach(cell, query->rtable)
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_RELATION)
			*found = list_append_unique_oid(*found, lfirst_node(RangeTblEntry, cell)->relid);
	return query_tree_walker(query, find_relations, found, QTW_IGNORE_JOINALIASES);
}

/*
 * The relations that a view reads, in subqueries of FROM, WITH and expressions, too,
 * as LOCK TABLE finds them (LockViewRecurse_walker, lockcmds.c).  NULL if it is none.
 */
Oid *
mw_behind_view(Oid view, int *count)
{
	Relation	rel;
	List	   *found = NIL;
	Oid		   *result = NULL;

	*count = 0;
	if (!OidIsValid(view) || get_rel_relkind(view) != RELKIND_VIEW)
		return NULL;
	rel = try_relation_open(view, AccessShareLock);
	if (rel == NULL)
		return NULL;
	(void) find_relations((Node *) get_view_query(rel), &found);
	relation_close(rel, NoLock);
	if (found != NIL)
		result = palloc(list_length(found) * sizeof(Oid));
	for (; *count < list_length(found); (*count)++)
		result[*count] = list_nth_oid(found, *count);
	return result;
}

/* ---- authors of functions: the server's walker takes a C function ---- */

static bool
is_strange(Oid function, void *owner)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			of = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		of = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return of != *(Oid *) owner && !superuser_arg(of);
}

static bool
is_strange_condition(Node *node, void *owner)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain) || check_functions_in_node(node, is_strange, owner))
		return true;
	return expression_tree_walker(node, is_strange_condition, owner);
}

/*
 * Whether the condition of a trigger evaluates what neither that role nor a superuser
 * has made; so may the checks of any domain.
 */
bool
mw_is_strange_condition(const char *condition, Oid owner)
{
	return condition != NULL && is_strange_condition(stringToNode(condition), &owner);
}
