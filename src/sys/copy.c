/*
 * copy.c
 *		COPY FROM STDIN into a table with row-level security.  The server refuses
 *		it (DoCopy, copy.c), where it lets INSERT through; for a table whose
 *		trigger checks more than its policy does, COPY may do what INSERT may.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "access/skey.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "commands/copy.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "parser/parse_relation.h"
#include "rewrite/rowsecurity.h"
#include "storage/lwlock.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"

#include "shim.h"

bool
mw_is_copy(PlannedStmt *planned)
{
	return IsA(planned->utilityStmt, CopyStmt);
}

/* All columns of a relation, as a list of names */
static List *
column_names(Oid relation)
{
	Relation	rel = relation_open(relation, AccessShareLock);
	List	   *names = NIL;

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute column = TupleDescAttr(RelationGetDescr(rel), i);

		if (!column->attisdropped)
			names = lappend(names, makeString(pstrdup(NameStr(column->attname))));
	}
	relation_close(rel, NoLock);
	return names;
}

/*
 * The server copies to and from tables only.  A COPY of this view becomes one
 * of the table behind it, with the same columns and the caller's rights; any
 * other statement stays as it is.
 */
PlannedStmt *
mw_copy_through(PlannedStmt *planned, Oid view, const char *schema, const char *table)
{
	CopyStmt   *copy = (CopyStmt *) planned->utilityStmt;

	if (!IsA(copy, CopyStmt) || copy->relation == NULL ||
		RangeVarGetRelid(copy->relation, NoLock, true) != view)
		return planned;
	/* as if the view were copied, before the table's own rights are looked at */
	if (pg_class_aclcheck(view, GetUserId(), copy->is_from ? ACL_INSERT : ACL_SELECT) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(view, GetUserId(), copy->is_from ? ACL_INSERT : ACL_SELECT,
								  ACLMASK_ANY) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, get_rel_name(view));
	planned = copyObject(planned);
	copy = (CopyStmt *) planned->utilityStmt;
	if (copy->attlist == NIL)
		copy->attlist = column_names(view);
	copy->relation = makeRangeVar(pstrdup(schema), pstrdup(table), copy->relation->location);
	return planned;
}

/* COPY table (columns) FROM STDIN */
bool
mw_is_client_copy(PlannedStmt *planned)
{
	CopyStmt   *copy = (CopyStmt *) planned->utilityStmt;

	return IsA(copy, CopyStmt) && copy->is_from && copy->relation != NULL &&
		copy->filename == NULL && !copy->is_program &&
		copy->attlist != NIL && copy->whereClause == NULL;
}

/* Whether that policy is the only one, and applies to the current user. */
static bool
refused_by(Relation rel, const char *policy)
{
	List	   *policies = rel->rd_rsdesc ? rel->rd_rsdesc->policies : NIL;

	return list_length(policies) == 1 &&
		strcmp(((RowSecurityPolicy *) linitial(policies))->policy_name, policy) == 0 &&
		check_enable_rls(RelationGetRelid(rel), InvalidOid, true) == RLS_ENABLED;
}

/*
 * Runs such a COPY as DoCopy does, as the current user and with its rights,
 * if it is into this table, and the table's one policy of that name is what
 * would refuse it.  False if it is not, so that the server has to run it.
 */
bool
mw_client_copy(PlannedStmt *planned, const char *query, struct QueryEnvironment *environment,
			   struct QueryCompletion *completion, Oid table, const char *policy)
{
	CopyStmt   *copy = (CopyStmt *) planned->utilityStmt;
	Relation	rel = table_openrv_extended(copy->relation, RowExclusiveLock, true);
	ParseState *pstate;
	ParseNamespaceItem *target;
	Bitmapset  *columns = NULL;
	CopyFromState state;
	uint64		rows;
	ListCell   *cell;

	if (rel == NULL)
		return false;
	foreach(cell, copy->attlist)
	{
		AttrNumber	column = get_attnum(RelationGetRelid(rel), strVal(lfirst(cell)));

		if (column == InvalidAttrNumber)
			break;
		columns = bms_add_member(columns, column - FirstLowInvalidHeapAttributeNumber);
	}
	if (RelationGetRelid(rel) != table || cell != NULL || !refused_by(rel, policy))
	{
		/* the lock stays: the server takes it again */
		table_close(rel, NoLock);
		return false;
	}

	pstate = make_parsestate(NULL);
	pstate->p_sourcetext = query;
	pstate->p_queryEnv = environment;
	target = addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL, false, false);
#if PG_VERSION_NUM >= 160000
	target->p_perminfo->requiredPerms = ACL_INSERT;
	target->p_perminfo->insertedCols = columns;
	ExecCheckPermissions(pstate->p_rtable, list_make1(target->p_perminfo), true);
#else
	target->p_rte->requiredPerms = ACL_INSERT;
	target->p_rte->insertedCols = columns;
	ExecCheckRTPerms(pstate->p_rtable, true);
#endif
	PreventCommandIfReadOnly("COPY FROM");
	state = BeginCopyFrom(pstate, rel, NULL, NULL, false, NULL, copy->attlist, copy->options);
	rows = CopyFrom(state);
	EndCopyFrom(state);
	table_close(rel, NoLock);
	free_parsestate(pstate);
	if (completion)
		SetQueryCompletion(completion, CMDTAG_COPY, rows);
	return true;
}
