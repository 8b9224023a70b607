/*
 * pristine.c
 *		Whether a table of ours is as the extension made it.
 *
 * append.c writes rows as they come: no default, no constraint, no trigger, no
 * rule.  That is right only where there are none but those which our rows are
 * known to satisfy.  Where its owner has changed the table, a statement writes.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "storage/lwlock.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapshot.h"

#include "shim.h"

/* Whether the table has that CHECK and no other.  Its text is made once for each form of it. */
static bool
has_only_check(Relation rel, const TupleConstr *constr, const char *check)
{
	static char *known = NULL;
	const char *stored;
	List	   *context;

	if (constr == NULL || constr->num_check == 0)
		return true;
	if (constr->num_check > 1)
		return false;
	stored = constr->check[0].ccbin;
	if (known != NULL && strcmp(known, stored) == 0)
		return true;
	context = deparse_context_for(RelationGetRelationName(rel), RelationGetRelid(rel));
	if (strcmp(deparse_expression(stringToNode(stored), context, false, false), check) != 0)
		return false;
	if (known != NULL)
		pfree(known);
	known = MemoryContextStrdup(TopMemoryContext, stored);
	return true;
}

/* The first columns are these, and what stands behind them was dropped. */
static bool
has_only_columns(TupleDesc desc, const Oid *types, int columns, uint64 filled)
{
	if (desc->natts < columns)
		return false;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (i >= columns)
		{
			if (!column->attisdropped)
				return false;
			continue;
		}
		if (column->attisdropped || column->atttypid != types[i] ||
			column->attgenerated != '\0' ||
			(column->attnotnull && (filled & (UINT64CONST(1) << i)) == 0))
			return false;
	}
	return true;
}

/* No trigger but the one that keeps others from writing, which fires once a statement. */
static bool
has_only_our_trigger(const TriggerDesc *triggers)
{
	return triggers == NULL ||
		(triggers->numtriggers == 1 &&
		 !TRIGGER_FOR_ROW(triggers->triggers[0].tgtype) &&
		 strcmp(triggers->triggers[0].tgname, "history_only_owner") == 0);
}

/*
 * Whether rows of these columns may be written without a look at anything but
 * the indexes.  Bit i of `filled`: column i of ours is never NULL.
 */
bool
mw_is_pristine(Relation rel, const Oid *types, int columns, uint64 filled, const char *check)
{
	TupleDesc	desc = RelationGetDescr(rel);

	return rel->rd_rel->relkind == RELKIND_RELATION &&
		!rel->rd_rel->relispartition &&
		!rel->rd_rel->relforcerowsecurity &&
		has_only_our_trigger(rel->trigdesc) &&
		rel->rd_rules == NULL &&
		has_only_columns(desc, types, columns, filled) &&
		has_only_check(rel, desc->constr, check);
}

/* Whether rows of a table queue events that are fired later */
bool
mw_has_deferred_triggers(Oid table)
{
	Relation	rel = try_relation_open(table, AccessShareLock);
	bool		found = false;

	if (rel == NULL)
		return false;
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		found |= rel->trigdesc->triggers[i].tginitdeferred;
	relation_close(rel, AccessShareLock);
	return found;
}
