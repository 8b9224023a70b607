/*
 * leaves.c
 *		How many entries a btree index has, by a walk over its leaf pages.
 *
 * No row is fetched and no snapshot asked: an entry counts from its insertion,
 * committed or not, until somebody has found its row dead.  A page whose first
 * and last entries are of one kind counts as a whole, so a million entries
 * take a few milliseconds.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/memnodes.h"
#include "nodes/plannodes.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "shim.h"

typedef struct LeafWalk
{
	Relation	index;
	TimestampTz bound;
	MwLeafGroup *groups;
	int			count;
	int			room;
} LeafWalk;

/* Columns of the index */
#define FIRST 1
#define SECOND 2
#define THIRD 3
#define TIME 4

static Datum
column(LeafWalk *walk, Page page, OffsetNumber at, int attno)
{
	IndexTuple	entry = (IndexTuple) PageGetItem(page, PageGetItemId(page, at));
	bool		isnull;

	/* All four are NOT NULL. */
	return index_getattr(entry, attno, RelationGetDescr(walk->index), &isnull);
}

static bool
is_after(LeafWalk *walk, Page page, OffsetNumber at)
{
	return DatumGetTimestampTz(column(walk, page, at, TIME)) > walk->bound;
}

static bool
same_text(Datum a, Datum b)
{
	text	   *x = DatumGetTextPP(a);
	text	   *y = DatumGetTextPP(b);

	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

/* The group of an entry: the last one, since entries come in order, or a new one. */
static MwLeafGroup *
group_of(LeafWalk *walk, Page page, OffsetNumber at)
{
	Oid			first = DatumGetObjectId(column(walk, page, at, FIRST));
	Datum		second = column(walk, page, at, SECOND);
	MwLeafGroup *group = walk->count > 0 ? walk->groups + walk->count - 1 : NULL;

	if (group && group->first == first && same_text(group->second, second))
		return group;
	if (walk->count == walk->room)
	{
		walk->room *= 2;
		walk->groups = repalloc(walk->groups, walk->room * sizeof(MwLeafGroup));
	}
	group = walk->groups + walk->count++;
	group->first = first;
	group->second = PointerGetDatum(DatumGetTextPCopy(second));
	group->until = group->after = 0;
	return group;
}

static int64
live_entries(Page page, OffsetNumber from, OffsetNumber to)
{
	int64		live = 0;

	for (OffsetNumber at = from; at <= to; at++)
		live += !ItemIdIsDead(PageGetItemId(page, at));
	return live;
}

static void
count_page(LeafWalk *walk, Page page)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	OffsetNumber to = PageGetMaxOffsetNumber(page);
	MwLeafGroup *group;
	bool		one_group;
	bool		after;

	if (P_IGNORE(opaque) || to < from)
		return;
	group = group_of(walk, page, from);
	one_group = DatumGetObjectId(column(walk, page, to, FIRST)) == group->first &&
		same_text(column(walk, page, to, SECOND), group->second);
	after = is_after(walk, page, to);
	if (one_group && after == is_after(walk, page, from) &&
		column(walk, page, from, THIRD) == column(walk, page, to, THIRD))
	{
		*(after ? &group->after : &group->until) += live_entries(page, from, to);
		return;
	}
	for (OffsetNumber at = from; at <= to; at++)
	{
		if (ItemIdIsDead(PageGetItemId(page, at)))
			continue;
		if (!one_group)
			group = group_of(walk, page, at);
		if (is_after(walk, page, at))
			group->after++;
		else
			group->until++;
	}
}

/* The groups in index order, palloc'd. */
MwLeafGroup *
mw_count_leaves(Relation index, TimestampTz bound, int *count)
{
	LeafWalk	walk = {.index = index,.bound = bound,.count = 0,.room = 16};
	Buffer		buffer;

	walk.groups = palloc(walk.room * sizeof(MwLeafGroup));
#if PG_VERSION_NUM >= 170000
	buffer = _bt_get_endpoint(index, 0, false);
#else
	buffer = _bt_get_endpoint(index, 0, false, NULL);
#endif
	while (BufferIsValid(buffer))
	{
		Page		page = BufferGetPage(buffer);
		BlockNumber next = ((BTPageOpaque) PageGetSpecialPointer(page))->btpo_next;

		count_page(&walk, page);
		_bt_relbuf(index, buffer);
		CHECK_FOR_INTERRUPTS();
		if (next == P_NONE)
			break;
		buffer = _bt_getbuf(index, next, BT_READ);
	}
	*count = walk.count;
	return walk.groups;
}
