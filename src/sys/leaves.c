/*
 * leaves.c
 *		How many entries a btree index has, by a walk over its leaf pages.
 *
 * No row is fetched and no snapshot asked: an entry counts from its insertion,
 * committed or not, until somebody has found its row dead.
 *
 * What takes time is to wait for memory, so the leaves' parents are read first:
 * they list the leaves, and their keys tell which leaves hold entries of one
 * kind.  Of such a leaf only the head is looked at, and the heads of several are
 * asked for ahead of their turn.  A million entries take a few milliseconds.
 *
 * Leaves may be split or deleted while we go.  A split off page has no place in
 * the list, so the chain of right links is followed from the leaf before it.
 * Our snapshot keeps deleted pages from being used anew.
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
	struct LeafKey *keys;
	int			key_count;
	int			key_room;
	struct Leaf *leaves;
	int			leaf_count;
	int			leaf_room;
} LeafWalk;

/* The first two columns of the entries of some leaves */
typedef struct LeafKey
{
	Oid			first;
	Datum		second;
} LeafKey;

/* A leaf as its parent knows it */
typedef struct Leaf
{
	BlockNumber block;
	int			key;			/* of all its entries, or MIXED */
	bool		after;			/* all of them are, or none is */
} Leaf;

#define MIXED (-1)

/* So many leaves are pinned at a time */
#define AHEAD 32

/* Columns of the index */
#define FIRST 1
#define SECOND 2
#define THIRD 3
#define TIME 4

/* All four columns are NOT NULL. */
static Datum
field(LeafWalk *walk, IndexTuple entry, int attno)
{
	bool		isnull;

	return index_getattr(entry, attno, RelationGetDescr(walk->index), &isnull);
}

static IndexTuple
entry_at(Page page, OffsetNumber at)
{
	return (IndexTuple) PageGetItem(page, PageGetItemId(page, at));
}

static Datum
column(LeafWalk *walk, Page page, OffsetNumber at, int attno)
{
	return field(walk, entry_at(page, at), attno);
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
group_of(LeafWalk *walk, Oid first, Datum second)
{
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

static MwLeafGroup *
group_at(LeafWalk *walk, Page page, OffsetNumber at)
{
	return group_of(walk, DatumGetObjectId(column(walk, page, at, FIRST)),
					column(walk, page, at, SECOND));
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
	group = group_at(walk, page, from);
	one_group = DatumGetObjectId(column(walk, page, to, FIRST)) == group->first &&
		same_text(column(walk, page, to, SECOND), group->second);
	after = is_after(walk, page, to);
	if (one_group && after == is_after(walk, page, from) &&
		column(walk, page, from, THIRD) == column(walk, page, to, THIRD))
	{
		*(after ? &group->after : &group->until) +=
			P_HAS_GARBAGE(opaque) ? live_entries(page, from, to) : to - from + 1;
		return;
	}
	for (OffsetNumber at = from; at <= to; at++)
	{
		if (ItemIdIsDead(PageGetItemId(page, at)))
			continue;
		if (!one_group)
			group = group_at(walk, page, at);
		if (is_after(walk, page, at))
			group->after++;
		else
			group->until++;
	}
}

/* ---- the list of leaves ---- */

static int
key_of(LeafWalk *walk, Oid first, Datum second)
{
	LeafKey    *key = walk->key_count > 0 ? walk->keys + walk->key_count - 1 : NULL;

	if (key && key->first == first && same_text(key->second, second))
		return walk->key_count - 1;
	if (walk->key_count == walk->key_room)
	{
		walk->key_room *= 2;
		walk->keys = repalloc_huge(walk->keys, walk->key_room * sizeof(LeafKey));
	}
	key = walk->keys + walk->key_count++;
	key->first = first;
	key->second = PointerGetDatum(DatumGetTextPCopy(second));
	return walk->key_count - 1;
}

/* A key of a parent; it may be cut short. */
typedef struct Pivot
{
	int			columns;		/* so many of the four are there */
	Oid			first;
	Datum		second;
	int32		third;
	TimestampTz time;
} Pivot;

static void
read_pivot(LeafWalk *walk, IndexTuple entry, Pivot *pivot)
{
	pivot->columns = BTreeTupleGetNAtts(entry, walk->index);
	if (pivot->columns < THIRD)
		return;
	pivot->first = DatumGetObjectId(field(walk, entry, FIRST));
	pivot->second = field(walk, entry, SECOND);
	pivot->third = DatumGetInt32(field(walk, entry, THIRD));
	if (pivot->columns >= TIME)
		pivot->time = DatumGetTimestampTz(field(walk, entry, TIME));
}

/* Whether all that lies between two keys of a parent is of one kind. */
static bool
is_one_kind(LeafWalk *walk, const Pivot *lower, const Pivot *upper, bool *after)
{
	if (lower->columns < THIRD || upper->columns < THIRD || lower->first != upper->first ||
		lower->third != upper->third || !same_text(lower->second, upper->second))
		return false;
	*after = lower->columns >= TIME && lower->time > walk->bound;
	return *after || (upper->columns >= TIME && upper->time <= walk->bound);
}

static Leaf *
add_leaf(LeafWalk *walk, BlockNumber block)
{
	Leaf	   *leaf;

	if (walk->leaf_count == walk->leaf_room)
	{
		walk->leaf_room *= 2;
		walk->leaves = repalloc_huge(walk->leaves, walk->leaf_room * sizeof(Leaf));
	}
	leaf = walk->leaves + walk->leaf_count++;
	leaf->block = block;
	leaf->key = MIXED;
	leaf->after = false;
	return leaf;
}

static void
list_children(LeafWalk *walk, Page page)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber to = PageGetMaxOffsetNumber(page);

	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	Pivot		lower;
	Pivot		upper;

	if (P_IGNORE(opaque) || to < from)
		return;
	read_pivot(walk, entry_at(page, from), &lower);
	for (OffsetNumber at = from; at <= to; at++)
	{
		Leaf	   *leaf = add_leaf(walk, BTreeTupleGetDownLink(entry_at(page, at)));

		if (at < to)
			read_pivot(walk, entry_at(page, at + 1), &upper);
		else if (!P_RIGHTMOST(opaque))
			read_pivot(walk, entry_at(page, P_HIKEY), &upper);
		else
			upper.columns = 0;
		if (is_one_kind(walk, &lower, &upper, &leaf->after))
			leaf->key = key_of(walk, lower.first, lower.second);
		lower = upper;
	}
}

static Buffer
leftmost(Relation index, uint32 level)
{
#if PG_VERSION_NUM >= 170000
	return _bt_get_endpoint(index, level, false);
#else
	return _bt_get_endpoint(index, level, false, NULL);
#endif
}

static void
list_leaves(LeafWalk *walk)
{
	Relation	index = walk->index;
	PGAlignedBlock copy;
	Buffer		buffer;

	if (_bt_getrootheight(index) == 0)
	{
		/* One leaf, or none; what it is split into is found by the chain. */
		buffer = leftmost(index, 0);
		if (BufferIsValid(buffer))
		{
			add_leaf(walk, BufferGetBlockNumber(buffer));
			_bt_relbuf(index, buffer);
		}
		return;
	}
	buffer = leftmost(index, 1);
	while (BufferIsValid(buffer))
	{
		BlockNumber next;

		memcpy(copy.data, BufferGetPage(buffer), BLCKSZ);
		_bt_relbuf(index, buffer);
		next = ((BTPageOpaque) PageGetSpecialPointer((Page) copy.data))->btpo_next;
		list_children(walk, (Page) copy.data);
		CHECK_FOR_INTERRUPTS();
		if (next == P_NONE)
			break;
		buffer = _bt_getbuf(index, next, BT_READ);
	}
}

/* ---- the walk ---- */

/* Counts a pinned leaf and lets go of it; answers the leaf to its right. */
static BlockNumber
count_leaf(LeafWalk *walk, Buffer buffer, const Leaf *leaf, bool *ignored)
{
	Page		page = BufferGetPage(buffer);
	BTPageOpaque opaque;
	BlockNumber next;

	LockBuffer(buffer, BT_READ);
	_bt_checkpage(walk->index, buffer);
	opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	next = opaque->btpo_next;
	*ignored = P_IGNORE(opaque);
	if (!*ignored && leaf->key != MIXED)
	{
		LeafKey    *key = walk->keys + leaf->key;
		MwLeafGroup *group = group_of(walk, key->first, key->second);
		OffsetNumber from = P_FIRSTDATAKEY(opaque);
		OffsetNumber to = PageGetMaxOffsetNumber(page);
		int64		entries = P_HAS_GARBAGE(opaque) ? live_entries(page, from, to)
			: (int64) to - from + 1;

		*(leaf->after ? &group->after : &group->until) += entries;
	}
	else
		count_page(walk, page);
	UnlockReleaseBuffer(buffer);
	return next;
}

static bool
is_listed(LeafWalk *walk, int from, BlockNumber block)
{
	for (int i = from; i < walk->leaf_count; i++)
		if (walk->leaves[i].block == block)
			return true;
	return false;
}

/* Counts what leaf i was split into since it was listed. */
static void
follow(LeafWalk *walk, int i, BlockNumber next)
{
	while (next != P_NONE &&
		   !(i + 1 < walk->leaf_count && walk->leaves[i + 1].block == next) &&
		   !is_listed(walk, i + 1, next))
	{
		bool		ignored;

		CHECK_FOR_INTERRUPTS();
		next = count_leaf(walk, ReadBuffer(walk->index, next), walk->leaves + i, &ignored);
	}
}

/* The groups in index order, palloc'd. */
MwLeafGroup *
mw_count_leaves(Relation index, TimestampTz bound, int *count)
{
	LeafWalk	walk = {.index = index,.bound = bound,.room = 16,.key_room = 16,.leaf_room = 256};
	int			ahead = NBuffers < 100 * AHEAD ? 1 : AHEAD;

	walk.groups = palloc(walk.room * sizeof(MwLeafGroup));
	walk.keys = palloc(walk.key_room * sizeof(LeafKey));
	walk.leaves = palloc(walk.leaf_room * sizeof(Leaf));
	list_leaves(&walk);
	for (int i = 0; i < walk.leaf_count; i += ahead)
	{
		int			some = Min(ahead, walk.leaf_count - i);
		Buffer		buffers[AHEAD];

		for (int j = 0; j < some; j++)
		{
			char	   *page;

			buffers[j] = ReadBuffer(index, walk.leaves[i + j].block);
			page = (char *) BufferGetPage(buffers[j]);
			__builtin_prefetch(page);
			__builtin_prefetch(page + BLCKSZ - sizeof(BTPageOpaqueData));
		}
		for (int j = 0; j < some; j++)
		{
			bool		ignored;
			BlockNumber next = count_leaf(&walk, buffers[j], walk.leaves + i + j, &ignored);

			/* A page that was deleted says nothing of its neighbours. */
			if (!ignored)
				follow(&walk, i + j, next);
		}
		CHECK_FOR_INTERRUPTS();
	}
	*count = walk.count;
	return walk.groups;
}
