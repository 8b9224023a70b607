/*
 * ddl.c
 *		Which relations a utility statement names that it locks before it looks
 *		whether its author may, or that it points a foreign key at; and on which
 *		relation an object hangs that was just made.
 *
 * The parse nodes of a dozen statements have nothing in common but that, and
 * differ between majors.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_policy.h"
#include "catalog/pg_rewrite.h"
#include "catalog/pg_trigger.h"
#include "commands/dbcommands.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "nodes/value.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lockdefs.h"
#include "storage/lwlock.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "shim.h"

typedef struct Targets
{
	MwTarget   *list;
	int			count;
	int			room;
} Targets;

static void
add_relation(Targets *targets, Oid relation, bool is_key)
{
	if (!OidIsValid(relation))
		return;
	if (targets->count == targets->room)
	{
		targets->room = targets->room == 0 ? 8 : targets->room * 2;
		targets->list = targets->list == NULL ? palloc(targets->room * sizeof(MwTarget))
			: repalloc(targets->list, targets->room * sizeof(MwTarget));
	}
	targets->list[targets->count].relation = relation;
	targets->list[targets->count].is_foreign_key = is_key;
	targets->count++;
}

/* A name may begin with that of the database; with another one the server refuses it. */
static bool
is_here(RangeVar *name)
{
	return name->catalogname == NULL ||
		strcmp(name->catalogname, get_database_name(MyDatabaseId)) == 0;
}

static void
add_name(Targets *targets, RangeVar *name, bool is_key)
{
	if (name != NULL && is_here(name))
		add_relation(targets, RangeVarGetRelid(name, NoLock, true), is_key);
}

static void
add_names(Targets *targets, List *names)
{
	ListCell   *cell;

	foreach(cell, names)
		if (IsA(lfirst(cell), RangeVar))
			add_name(targets, lfirst(cell), false);
}

static void
add_constraints(Targets *targets, List *constraints)
{
	ListCell   *cell;

	foreach(cell, constraints)
		if (IsA(lfirst(cell), Constraint) &&
			lfirst_node(Constraint, cell)->contype == CONSTR_FOREIGN)
			add_name(targets, lfirst_node(Constraint, cell)->pktable, true);
}

/* Columns and constraints of CREATE TABLE and ALTER TABLE */
static void
add_elements(Targets *targets, List *elements)
{
	ListCell   *cell;

	add_constraints(targets, elements);
	foreach(cell, elements)
		if (IsA(lfirst(cell), ColumnDef))
			add_constraints(targets, lfirst_node(ColumnDef, cell)->constraints);
}

static void
add_commands(Targets *targets, List *commands)
{
	ListCell   *cell;

	foreach(cell, commands)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, cell);

		if (command->def == NULL)
			continue;
		if (IsA(command->def, RangeVar))
			add_name(targets, (RangeVar *) command->def, false);
		else if (IsA(command->def, PartitionCmd))
			add_name(targets, ((PartitionCmd *) command->def)->name, false);
		else if (IsA(command->def, Constraint) || IsA(command->def, ColumnDef))
			add_elements(targets, list_make1(command->def));
	}
}

static void
add_publication(Targets *targets, List *objects)
{
	ListCell   *cell;

	foreach(cell, objects)
	{
		PublicationObjSpec *object = lfirst_node(PublicationObjSpec, cell);

		if (object->pubtable != NULL)
			add_name(targets, object->pubtable->relation, false);
	}
}

static bool add_locked_within(Node *node, Targets *targets);

/* LOCK TABLE goes on to whatever tables a view reads, and views behind it: each once here. */
static void
add_locked(Targets *targets, Oid relation)
{
	Relation	rel;

	for (int i = 0; i < targets->count; i++)
		if (targets->list[i].relation == relation)
			return;
	add_relation(targets, relation, false);
	if (!OidIsValid(relation) || get_rel_relkind(relation) != RELKIND_VIEW)
		return;
	rel = try_relation_open(relation, AccessShareLock);
	if (rel == NULL)
		return;
	(void) add_locked_within((Node *) get_view_query(rel), targets);
	relation_close(rel, NoLock);
}

/* Subqueries in FROM, WITH and expressions included, as in LockViewRecurse_walker (lockcmds.c) */
static bool
add_locked_within(Node *node, Targets *targets)
{
	Query	   *query = (Query *) node;
	ListCell   *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, add_locked_within, targets);
	check_stack_depth();
	foreach(cell, query->rtable)
		if (lfirst_node(RangeTblEntry, cell)->rtekind == RTE_RELATION)
			add_locked(targets, lfirst_node(RangeTblEntry, cell)->relid);
	return query_tree_walker(query, add_locked_within, targets, QTW_IGNORE_JOINALIASES);
}

/* A relation that COMMENT, SECURITY LABEL or ALTER EXTENSION .. ADD names */
static void
add_object(Targets *targets, ObjectType type, Node *object)
{
	switch (type)
	{
		case OBJECT_TABLE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_INDEX:
		case OBJECT_SEQUENCE:
		case OBJECT_FOREIGN_TABLE:
			add_name(targets, makeRangeVarFromNameList(castNode(List, object)), false);
			break;
		default:
			break;
	}
}

/*
 * The relations, palloc'd.  Names are looked up without a lock, as of this
 * moment; those that are not there, and temporary ones, do not matter here.
 */
MwTarget *
mw_locked_first(PlannedStmt *planned, int *count)
{
	Node	   *statement = planned->utilityStmt;
	Targets		targets = {0};
	ListCell   *cell;

	switch (nodeTag(statement))
	{
		case T_CreateTrigStmt:
			add_name(&targets, ((CreateTrigStmt *) statement)->relation, false);
			add_name(&targets, ((CreateTrigStmt *) statement)->constrrel, false);
			break;
		case T_RuleStmt:
			add_name(&targets, ((RuleStmt *) statement)->relation, false);
			break;
		case T_CreateStatsStmt:
			add_names(&targets, ((CreateStatsStmt *) statement)->relations);
			break;
		case T_CreateStmt:
			add_names(&targets, ((CreateStmt *) statement)->inhRelations);
			add_elements(&targets, ((CreateStmt *) statement)->tableElts);
			break;
		case T_CreateForeignTableStmt:
			add_names(&targets, ((CreateForeignTableStmt *) statement)->base.inhRelations);
			add_elements(&targets, ((CreateForeignTableStmt *) statement)->base.tableElts);
			break;
		case T_AlterTableStmt:
			add_commands(&targets, ((AlterTableStmt *) statement)->cmds);
			break;
		case T_CreatePublicationStmt:
			add_publication(&targets, ((CreatePublicationStmt *) statement)->pubobjects);
			break;
		case T_AlterPublicationStmt:
			add_publication(&targets, ((AlterPublicationStmt *) statement)->pubobjects);
			break;
		case T_LockStmt:
			if (((LockStmt *) statement)->mode > RowExclusiveLock)
				foreach(cell, ((LockStmt *) statement)->relations)
					add_locked(&targets, RangeVarGetRelid(lfirst(cell), NoLock, true));
			break;
		case T_AlterExtensionContentsStmt:
			add_object(&targets, ((AlterExtensionContentsStmt *) statement)->objtype,
					   ((AlterExtensionContentsStmt *) statement)->object);
			break;
		case T_CommentStmt:
			add_object(&targets, ((CommentStmt *) statement)->objtype,
					   ((CommentStmt *) statement)->object);
			break;
		case T_SecLabelStmt:
			add_object(&targets, ((SecLabelStmt *) statement)->objtype,
					   ((SecLabelStmt *) statement)->object);
			break;
		case T_AlterObjectDependsStmt:
			add_name(&targets, ((AlterObjectDependsStmt *) statement)->relation, false);
			break;
		default:
			break;
	}
	*count = targets.count;
	return targets.list;
}

/*
 * Whether the statement locks that extension against everybody: DROP EXTENSION,
 * among others, and ALTER .. DEPENDS ON EXTENSION, which looks only whether the
 * object is its author's.
 */
bool
mw_locks_extension(PlannedStmt *planned, const char *name)
{
	Node	   *statement = planned->utilityStmt;
	ListCell   *cell;

	if (IsA(statement, AlterObjectDependsStmt))
		return strcmp(strVal(((AlterObjectDependsStmt *) statement)->extname), name) == 0;
	if (!IsA(statement, DropStmt) || ((DropStmt *) statement)->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, ((DropStmt *) statement)->objects)
		if (strcmp(strVal(lfirst(cell)), name) == 0)
			return true;
	return false;
}

/* An OID in the row of an object that this command has written; InvalidOid if there is none */
static Oid
oid_of_new(Oid catalog, Oid index, AttrNumber key, Oid object, AttrNumber attribute)
{
	Relation	rel = table_open(catalog, AccessShareLock);
	ScanKeyData condition;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			result = InvalidOid;

	ScanKeyInit(&condition, key, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(object));
	scan = systable_beginscan(rel, index, true, SnapshotSelf, 1, &condition);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, attribute, RelationGetDescr(rel), &isnull);

		result = isnull ? InvalidOid : DatumGetObjectId(value);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return result;
}

Oid
mw_relation_of_trigger(Oid trigger)
{
	return oid_of_new(TriggerRelationId, TriggerOidIndexId, Anum_pg_trigger_oid, trigger,
					  Anum_pg_trigger_tgrelid);
}

Oid
mw_relation_of_rule(Oid rule)
{
	return oid_of_new(RewriteRelationId, RewriteOidIndexId, Anum_pg_rewrite_oid, rule,
					  Anum_pg_rewrite_ev_class);
}

Oid
mw_relation_of_policy(Oid policy)
{
	return oid_of_new(PolicyRelationId, PolicyOidIndexId, Anum_pg_policy_oid, policy,
					  Anum_pg_policy_polrelid);
}

/* The relation that a foreign key refers to; InvalidOid for other constraints */
Oid
mw_relation_referred(Oid constraint)
{
	return oid_of_new(ConstraintRelationId, ConstraintOidIndexId, Anum_pg_constraint_oid, constraint,
					  Anum_pg_constraint_confrelid);
}
