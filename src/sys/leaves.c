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
 *
 * This is C because it reads pages by the inline functions of the btree, with a
 * pin and a lock that an ERROR has to give back.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "shim.h"

/* A leaf as its parent knows it */
typedef struct Leaf
{
	BlockNumber block;
	int			group;			/* of all its entries, or MIXED */
	bool		after;			/* all of them are, or none is */
} Leaf;

#define MIXED (-1)

typedef struct LeafWalk
{
	Relation	index;
	TimestampTz bound;
	MwLeafGroup *groups;
	int			group_count;
	int			group_room;
	Leaf	   *leaves;
	int			leaf_count;
	int			leaf_room;
} LeafWalk;

/* So many leaves are pinned at a time */
#define AHEAD 32

/* Columns of the index, all of them NOT NULL */
#define FIRST 1
#define SECOND 2
#define THIRD 3
#define TIME 4

/* An entry of a leaf, or a key of a parent, which may be cut short */
typedef struct Entry
{
	int			columns;		/* so many of the four are there */
	Oid			first;
	Datum		second;
	int32		third;
	TimestampTz time;
} Entry;

static IndexTuple
tuple_at(Page page, OffsetNumber at)
{
	return (IndexTuple) PageGetItem(page, PageGetItemId(page, at));
}

static Datum
column(LeafWalk *walk, IndexTuple tuple, int attno)
{
	bool		isnull;

	return index_getattr(tuple, attno, RelationGetDescr(walk->index), &isnull);
}

static Entry
entry_at(LeafWalk *walk, Page page, OffsetNumber at)
{
	IndexTuple	tuple = tuple_at(page, at);
	Entry		entry = {.columns = BTreeTupleGetNAtts(tuple, walk->index)};

	if (entry.columns < THIRD)
		return entry;
	entry.first = DatumGetObjectId(column(walk, tuple, FIRST));
	entry.second = column(walk, tuple, SECOND);
	entry.third = DatumGetInt32(column(walk, tuple, THIRD));
	if (entry.columns >= TIME)
		entry.time = DatumGetTimestampTz(column(walk, tuple, TIME));
	return entry;
}

static bool
same_text(Datum a, Datum b)
{
	text	   *x = DatumGetTextPP(a);
	text	   *y = DatumGetTextPP(b);

	return VARSIZE_ANY_EXHDR(x) == VARSIZE_ANY_EXHDR(y) &&
		memcmp(VARDATA_ANY(x), VARDATA_ANY(y), VARSIZE_ANY_EXHDR(x)) == 0;
}

/* Whether all that lies between two entries is of one kind. */
static bool
is_one_kind(LeafWalk *walk, const Entry *lower, const Entry *upper, bool *after)
{
	if (lower->columns < THIRD || upper->columns < THIRD || lower->first != upper->first ||
		lower->third != upper->third || !same_text(lower->second, upper->second))
		return false;
	*after = lower->columns >= TIME && lower->time > walk->bound;
	return *after || (upper->columns >= TIME && upper->time <= walk->bound);
}

/* The group of an entry: the last one, since entries come in order, or a new one. */
static int
group_of(LeafWalk *walk, const Entry *entry)
{
	int			last = walk->group_count - 1;
	MwLeafGroup *group;

	if (last >= 0 && walk->groups[last].first == entry->first &&
		same_text(walk->groups[last].second, entry->second))
		return last;
	if (walk->group_count == walk->group_room)
	{
		walk->group_room *= 2;
		walk->groups = repalloc_huge(walk->groups, walk->group_room * sizeof(MwLeafGroup));
	}
	group = walk->groups + walk->group_count;
	group->first = entry->first;
	group->second = PointerGetDatum(DatumGetTextPCopy(entry->second));
	group->until = group->after = 0;
	return walk->group_count++;
}

static void
add(LeafWalk *walk, int group, bool after, int64 entries)
{
	*(after ? &walk->groups[group].after : &walk->groups[group].until) += entries;
}

/* ---- the list of leaves ---- */

static Leaf *
add_leaf(LeafWalk *walk, BlockNumber block)
{
	if (walk->leaf_count == walk->leaf_room)
	{
		walk->leaf_room *= 2;
		walk->leaves = repalloc_huge(walk->leaves, walk->leaf_room * sizeof(Leaf));
	}
	walk->leaves[walk->leaf_count] = (Leaf) {.block = block,.group = MIXED};
	return walk->leaves + walk->leaf_count++;
}

static void
list_children(LeafWalk *walk, Page page)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	OffsetNumber to = PageGetMaxOffsetNumber(page);
	Entry		lower;

	if (P_IGNORE(opaque) || to < from)
		return;
	lower = entry_at(walk, page, from);
	for (OffsetNumber at = from; at <= to; at++)
	{
		Leaf	   *leaf = add_leaf(walk, BTreeTupleGetDownLink(tuple_at(page, at)));
		Entry		upper = {0};

		if (at < to)
			upper = entry_at(walk, page, at + 1);
		else if (!P_RIGHTMOST(opaque))
			upper = entry_at(walk, page, P_HIKEY);
		if (is_one_kind(walk, &lower, &upper, &leaf->after))
			leaf->group = group_of(walk, &lower);
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
	bool		is_leaf = _bt_getrootheight(index) == 0;
	Buffer		buffer = leftmost(index, is_leaf ? 0 : 1);
	PGAlignedBlock copy;

	if (is_leaf && BufferIsValid(buffer))
	{
		/* What it is split into is found by the chain. */
		add_leaf(walk, BufferGetBlockNumber(buffer));
		_bt_relbuf(index, buffer);
	}
	while (!is_leaf && BufferIsValid(buffer))
	{
		BlockNumber next;

		memcpy(copy.data, BufferGetPage(buffer), BLCKSZ);
		_bt_relbuf(index, buffer);
		next = ((BTPageOpaque) PageGetSpecialPointer((Page) copy.data))->btpo_next;
		list_children(walk, (Page) copy.data);
		CHECK_FOR_INTERRUPTS();
		buffer = next == P_NONE ? InvalidBuffer : _bt_getbuf(index, next, BT_READ);
	}
}

/* ---- the walk ---- */

static void
count_page(LeafWalk *walk, Page page, Leaf leaf)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	OffsetNumber to = PageGetMaxOffsetNumber(page);
	Entry		entry;

	if (P_IGNORE(opaque) || to < from)
		return;
	if (leaf.group == MIXED)
	{
		Entry		last = entry_at(walk, page, to);

		entry = entry_at(walk, page, from);
		if (is_one_kind(walk, &entry, &last, &leaf.after))
			leaf.group = group_of(walk, &entry);
	}
	if (leaf.group != MIXED && !P_HAS_GARBAGE(opaque))
	{
		add(walk, leaf.group, leaf.after, to - from + 1);
		return;
	}
	for (OffsetNumber at = from; at <= to; at++)
	{
		if (ItemIdIsDead(PageGetItemId(page, at)))
			continue;
		if (leaf.group != MIXED)
		{
			add(walk, leaf.group, leaf.after, 1);
			continue;
		}
		entry = entry_at(walk, page, at);
		add(walk, group_of(walk, &entry), entry.time > walk->bound, 1);
	}
}

/* Counts a pinned leaf and lets go of it; answers the leaf to its right. */
static BlockNumber
count_leaf(LeafWalk *walk, Buffer buffer, const Leaf *leaf, bool *ignored)
{
	BTPageOpaque opaque;
	BlockNumber next;

	LockBuffer(buffer, BT_READ);
	_bt_checkpage(walk->index, buffer);
	opaque = (BTPageOpaque) PageGetSpecialPointer(BufferGetPage(buffer));
	next = opaque->btpo_next;
	*ignored = P_IGNORE(opaque);
	count_page(walk, BufferGetPage(buffer), *leaf);
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

/* The groups, palloc'd.  One of them may be there twice. */
MwLeafGroup *
mw_count_leaves(Relation index, TimestampTz bound, int *count)
{
	LeafWalk	walk = {.index = index,.bound = bound,.group_room = 16,.leaf_room = 256};
	int			ahead = NBuffers < 100 * AHEAD ? 1 : AHEAD;

	walk.groups = palloc(walk.group_room * sizeof(MwLeafGroup));
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
	*count = walk.group_count;
	return walk.groups;
}
