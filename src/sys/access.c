/*
 * access.c
 *		Tuples, tables, databases and roles: inline functions and macros of the
 *		server by name, and what differs between majors.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/multixact.h"
#include "access/relation.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_index.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "shim.h"

/* ---- tuples and tables ---- */

/* Here and below, a column that a table does not have yet, as another version made it, is NULL. */
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

void
mw_slot_tid(TupleTableSlot *slot, ItemPointer tid)
{
	ItemPointerCopy(&slot->tts_tid, tid);
}

IndexScanDesc
mw_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* (a, b, c) >= (x, y, z), as nodeIndexscan.c makes a row comparison. */
void
mw_key_from_place(ScanKey key, AttrNumber attno, int32 x, TimestampTz y, int64 z)
{
	static const RegProcedure compare[] = {F_BTINT4CMP, F_TIMESTAMPTZ_CMP, F_BTINT8CMP};
	Datum		values[] = {Int32GetDatum(x), Int64GetDatum(y), Int64GetDatum(z)};
	ScanKey		member = palloc(lengthof(compare) * sizeof(ScanKeyData));

	for (int i = 0; i < lengthof(compare); i++)
		ScanKeyEntryInitialize(&member[i],
							   SK_ROW_MEMBER | (i == lengthof(compare) - 1 ? SK_ROW_END : 0),
							   attno + i, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
							   compare[i], values[i]);
	MemSet(key, 0, sizeof(ScanKeyData));
	key->sk_flags = SK_ROW_HEADER;
	key->sk_attno = attno;
	key->sk_strategy = BTGreaterEqualStrategyNumber;
	key->sk_argument = PointerGetDatum(member);
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

/* Waits for the end of a transaction as for a row that it has locked. */
void
mw_wait_for_transaction(TransactionId xid)
{
	XactLockTableWait(xid, NULL, NULL, XLTW_None);
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

Oid
mw_relation_owner(Relation rel)
{
	return rel->rd_rel->relowner;
}

Oid
mw_relation_id(Relation rel)
{
	return RelationGetRelid(rel);
}

/* The first columns of a row, in one walk through it; NULL for those that it does not have */
void
mw_tuple_values(HeapTuple tuple, TupleDesc desc, int count, NullableDatum *values)
{
	Datum		data[MaxTupleAttributeNumber];
	bool		nulls[MaxTupleAttributeNumber];

	heap_deform_tuple(tuple, desc, data, nulls);
	for (int i = 0; i < count; i++)
	{
		values[i].isnull = i >= desc->natts || nulls[i];
		values[i].value = values[i].isnull ? (Datum) 0 : data[i];
	}
}

Datum
mw_tuple_attr(HeapTuple tuple, int attno, TupleDesc desc, bool *isnull)
{
	*isnull = true;
	if (attno > desc->natts)
		return (Datum) 0;
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

/* to_jsonb() looks its argument's type up in the expression that calls it. */
Datum
mw_to_jsonb(Datum value, Oid type)
{
	FmgrInfo	function;
	Const	   *argument = makeNullConst(type, -1, InvalidOid);

	fmgr_info(F_TO_JSONB, &function);
	fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(argument),
											 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
					   &function);
	return FunctionCall1(&function, value);
}

/* ---- databases and roles ---- */

struct MwDatabaseScan
{
	Relation	rel;
	TableScanDesc scan;
};

MwDatabaseScan *
mw_databases_begin(void)
{
	MwDatabaseScan *result = palloc(sizeof(MwDatabaseScan));

	result->rel = table_open(DatabaseRelationId, AccessShareLock);
	result->scan = table_beginscan_catalog(result->rel, 0, NULL);
	return result;
}

bool
mw_databases_next(MwDatabaseScan *scan, MwDatabase *database)
{
	HeapTuple	tuple = heap_getnext(scan->scan, ForwardScanDirection);
	Form_pg_database form;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_database) GETSTRUCT(tuple);
	database->oid = form->oid;
	/* -2 marks a database whose DROP was interrupted (DATCONNLIMIT_INVALID_DB) */
	database->usable = form->datallowconn && !form->datistemplate && form->datconnlimit != -2;
	strlcpy(database->name, NameStr(form->datname), NAMEDATALEN);
	return true;
}

void
mw_databases_end(MwDatabaseScan *scan)
{
	table_endscan(scan->scan);
	table_close(scan->rel, AccessShareLock);
}

/* The target schema of an extension, InvalidOid if it is gone, and its version, palloc'd */
Oid
mw_extension_schema(Oid extension, char **version)
{
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			schema = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	*version = NULL;
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_pg_extension_extversion,
										RelationGetDescr(rel), &isnull);

		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
		*version = TextDatumGetCString(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

/* Whether that is an index of that table, and can be scanned */
bool
mw_is_valid_index_of(Oid index, Oid table)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

		result = form->indrelid == table && form->indisvalid && form->indisready && form->indislive;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* Who owns a function; 0 if it is gone */
Oid
mw_function_owner(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

typedef struct Author
{
	Oid			owner;
} Author;

static bool
is_strange(Oid function, void *context)
{
	Oid			of = mw_function_owner(function);

	return of != ((Author *) context)->owner && !superuser_arg(of);
}

/* Whether the condition of a trigger evaluates what others have made; so may the checks of any domain */
static bool
is_strange_condition(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, CoerceToDomain) || check_functions_in_node(node, is_strange, context))
		return true;
	return expression_tree_walker(node, is_strange_condition, context);
}

/*
 * A trigger of a table whose function, or one in its condition, belongs neither to that role nor to a
 * superuser, palloc'd; NULL if there is none.  The server's own triggers do not
 * count.  The table stays locked.
 */
char *
mw_strange_trigger(Oid table, Oid owner)
{
	Relation	rel = table_open(table, AccessShareLock);
	TriggerDesc *triggers = rel->trigdesc;
	Author		author = {.owner = owner};
	char	   *found = NULL;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers && found == NULL; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (!trigger->tgisinternal &&
			(is_strange(trigger->tgfoid, &author) ||
			 (trigger->tgqual != NULL &&
			  is_strange_condition(stringToNode(trigger->tgqual), &author))))
			found = pstrdup(trigger->tgname);
	}
	table_close(rel, NoLock);
	return found;
}

/* The database that a utility statement needs free of sessions, or NULL */
const char *
mw_database_wanted(PlannedStmt *planned)
{
	Node	   *statement = planned->utilityStmt;
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			return ((DropdbStmt *) statement)->dbname;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				return ((RenameStmt *) statement)->subname;
			return NULL;
		case T_AlterDatabaseStmt:
			foreach(cell, ((AlterDatabaseStmt *) statement)->options)
				if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
					return ((AlterDatabaseStmt *) statement)->dbname;
			return NULL;
		case T_CreatedbStmt:
			foreach(cell, ((CreatedbStmt *) statement)->options)
			{
				DefElem    *option = lfirst_node(DefElem, cell);

				if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
					return defGetString(option);
			}
			return "template1";
		default:
			return NULL;
	}
}

/* Whether a planned statement locks, updates or deletes rows of a table */
bool
mw_statement_holds(PlannedStmt *planned, Oid table)
{
	ListCell   *cell;

	foreach(cell, planned->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, cell);

		if (RowMarkRequiresRowShareLock(mark->markType) &&
			rt_fetch(mark->rti, planned->rtable)->relid == table)
			return true;
	}
	if (planned->commandType == CMD_INSERT && !planned->hasModifyingCTE)
		return false;
	foreach(cell, planned->resultRelations)
		if (rt_fetch(lfirst_int(cell), planned->rtable)->relid == table)
			return true;
	return false;
}

/* 0: may log in; 1: dropped; 2: NOLOGIN; 3: no CONNECT on the database */
int
mw_role_barred(Oid role, Oid database)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		login;

	if (!HeapTupleIsValid(tuple))
		return 1;
	login = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	if (!login)
		return 2;
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(DatabaseRelationId, database, role, ACL_CONNECT) == ACLCHECK_OK ? 0 : 3;
#else
	return pg_database_aclcheck(database, role, ACL_CONNECT) == ACLCHECK_OK ? 0 : 3;
#endif
}

Oid
mw_trigger_table(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	return CALLED_AS_TRIGGER(fcinfo) ? RelationGetRelid(data->tg_relation) : InvalidOid;
}

HeapTuple
mw_trigger_row(FunctionCallInfo fcinfo, bool *is_update, TupleDesc *desc, HeapTuple *old)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(data->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(data->tg_event))
		return NULL;
	*desc = RelationGetDescr(data->tg_relation);
	*is_update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	*old = *is_update ? data->tg_trigtuple : NULL;
	return *is_update ? data->tg_newtuple : data->tg_trigtuple;
}
