/*
 * copy.c
 *		COPY FROM STDIN into a table whose row-level security makes the server
 *		refuse it, see src/pg/copy.rs.  How rights are checked differs between
 *		majors, and a COPY that has begun holds what only the server can end.
 */
#include "postgres.h"

#include "access/table.h"
#include "commands/copy.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "tcop/cmdtag.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "shim.h"

/*
 * Runs COPY table (columns) FROM STDIN as DoCopy does, as the current user and
 * with its rights.  The caller has locked the table and looked at the columns.
 */
void
mw_client_copy(PlannedStmt *planned, const char *query, struct QueryEnvironment *environment,
			   struct QueryCompletion *completion, Oid table)
{
	CopyStmt   *copy = castNode(CopyStmt, planned->utilityStmt);
	Relation	rel = table_open(table, NoLock);
	ParseState *pstate = make_parsestate(NULL);
	ParseNamespaceItem *target;
	Bitmapset  *columns = NULL;
	CopyFromState state;
	uint64		rows;
	ListCell   *cell;

	foreach(cell, copy->attlist)
		columns = bms_add_member(columns, get_attnum(table, strVal(lfirst(cell))) -
								 FirstLowInvalidHeapAttributeNumber);
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
}
