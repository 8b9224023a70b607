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
 * Where there are more than MANY leaves, a stretch of leaves of one kind is
 * sampled: one leaf at random from each of some equal parts, first a few of them,
 * then as many as it takes for the error of the stretch to be small (see ENOUGH).
 * Leaves that are filled alike, as they are where jobs come in the order of their
 * time, need few; where they differ much in a short stretch all are read, unless
 * that is more than MOST of all stretches together.
 *
 * Leaves may be split or deleted while we go.  A split off page has no place in
 * the list, so the chain of right links is followed from the leaf before it.
 * Our snapshot keeps deleted pages from being used anew.
 *
 * This is C because it reads pages by the inline functions of the btree, with a
 * pin and a lock that an ERROR has to give back.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/nbtree.h"
#include "common/pg_prng.h"
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
	pg_prng_state random;
} LeafWalk;

/* So many leaves are pinned at a time */
#define AHEAD 32

/* So many leaves are all read, which takes some 5 ms */
#define MANY 4096

/* So many are looked at in all, which takes some 45 ms */
#define MOST 32768

/* A shorter stretch is read, too, unless there are so many of these */
#define SHORT 32

/* An eighth of the leaves of a stretch, within these bounds, tell how much its leaves differ */
#define FEWEST 24
#define FEW 256

/*
 * The standard error of a stretch, as a part of its entries, squared: an error of 1 %
 * is three times as much.
 */
#define ENOUGH (0.003 * 0.003)

/* Leaves of one kind side by side */
typedef struct Stretch
{
	int			from;			/* the first of them, in the list */
	int			count;
	int			picked;			/* so many of them are looked at */
} Stretch;

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

static void
add_leaf(LeafWalk *walk, BlockNumber block, int group, bool after)
{
	if (walk->leaf_count == walk->leaf_room)
	{
		walk->leaf_room *= 2;
		walk->leaves = repalloc_huge(walk->leaves, walk->leaf_room * sizeof(Leaf));
	}
	walk->leaves[walk->leaf_count++] = (Leaf) {.block = block,.group = group,.after = after};
}

/* Lists the children of a page from one on to before another, whose keys are given: most of them are of one kind. */
static void
list_between(LeafWalk *walk, Page page, OffsetNumber from, const Entry *lower, OffsetNumber to, const Entry *upper)
{
	bool		after = false;
	int			group = MIXED;

	if (is_one_kind(walk, lower, upper, &after))
		group = group_of(walk, lower);
	else if (to - from > 1)
	{
		OffsetNumber middle = from + (to - from) / 2;
		Entry		entry = entry_at(walk, page, middle);

		list_between(walk, page, from, lower, middle, &entry);
		list_between(walk, page, middle, &entry, to, upper);
		return;
	}
	for (OffsetNumber at = from; at < to; at++)
		add_leaf(walk, BTreeTupleGetDownLink(tuple_at(page, at)), group, after);
}

static void
list_children(LeafWalk *walk, Page page)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	OffsetNumber to = PageGetMaxOffsetNumber(page);
	Entry		lower;
	Entry		upper = {0};

	if (P_IGNORE(opaque) || to < from)
		return;
	lower = entry_at(walk, page, from);
	if (!P_RIGHTMOST(opaque))
		upper = entry_at(walk, page, P_HIKEY);
	list_between(walk, page, from, &lower, to + 1, &upper);
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
		add_leaf(walk, BufferGetBlockNumber(buffer), MIXED, false);
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

/* Answers how many entries there are if the leaf was listed as of one kind, else adds them up. */
static int
count_page(LeafWalk *walk, Page page, Leaf leaf)
{
	BTPageOpaque opaque = (BTPageOpaque) PageGetSpecialPointer(page);
	OffsetNumber from = P_FIRSTDATAKEY(opaque);
	OffsetNumber to = PageGetMaxOffsetNumber(page);
	bool		listed = leaf.group != MIXED;
	int			alive = 0;

	if (P_IGNORE(opaque) || to < from)
		return 0;
	if (!listed)
	{
		Entry		first = entry_at(walk, page, from);
		Entry		last = entry_at(walk, page, to);

		if (is_one_kind(walk, &first, &last, &leaf.after))
			leaf.group = group_of(walk, &first);
	}
	if (leaf.group != MIXED && !P_HAS_GARBAGE(opaque))
		alive = to - from + 1;
	else
		for (OffsetNumber at = from; at <= to; at++)
		{
			Entry		entry;

			if (ItemIdIsDead(PageGetItemId(page, at)))
				continue;
			if (leaf.group != MIXED)
			{
				alive++;
				continue;
			}
			entry = entry_at(walk, page, at);
			add(walk, group_of(walk, &entry), entry.time > walk->bound, 1);
		}
	if (!listed && leaf.group != MIXED)
		add(walk, leaf.group, leaf.after, alive);
	return listed ? alive : 0;
}

/*
 * Counts a pinned leaf and lets go of it; answers the leaf to its right, P_NONE if the
 * page was deleted: that says nothing of its neighbours.
 */
static BlockNumber
count_leaf(LeafWalk *walk, Buffer buffer, const Leaf *leaf, int *entries)
{
	BTPageOpaque opaque;
	BlockNumber next;

	LockBuffer(buffer, BT_READ);
	_bt_checkpage(walk->index, buffer);
	opaque = (BTPageOpaque) PageGetSpecialPointer(BufferGetPage(buffer));
	next = P_IGNORE(opaque) ? P_NONE : opaque->btpo_next;
	*entries += count_page(walk, BufferGetPage(buffer), *leaf);
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
follow(LeafWalk *walk, int i, BlockNumber next, int *entries)
{
	while (next != P_NONE &&
		   !(i + 1 < walk->leaf_count && walk->leaves[i + 1].block == next) &&
		   !is_listed(walk, i + 1, next))
	{
		CHECK_FOR_INTERRUPTS();
		next = count_leaf(walk, ReadBuffer(walk->index, next), walk->leaves + i, entries);
	}
}

/* How many entries each of those leaves has that is of one kind; the others are added up. */
static void
read_leaves(LeafWalk *walk, const int *picks, int count, int *entries)
{
	int			ahead = NBuffers < 100 * AHEAD ? 1 : AHEAD;

	for (int i = 0; i < count; i += ahead)
	{
		int			some = Min(ahead, count - i);
		Buffer		buffers[AHEAD];

		for (int j = 0; j < some; j++)
		{
			char	   *page;

			buffers[j] = ReadBuffer(walk->index, walk->leaves[picks[i + j]].block);
			page = (char *) BufferGetPage(buffers[j]);
			__builtin_prefetch(page);
			__builtin_prefetch(page + BLCKSZ - sizeof(BTPageOpaqueData));
		}
		for (int j = 0; j < some; j++)
		{
			int			pick = picks[i + j];
			BlockNumber next;

			entries[i + j] = 0;
			next = count_leaf(walk, buffers[j], walk->leaves + pick, entries + i + j);
			follow(walk, pick, next, entries + i + j);
		}
		CHECK_FOR_INTERRUPTS();
	}
}

/* The leaves from one on that are of the same kind, by what their parents say. */
static Stretch
stretch_at(LeafWalk *walk, int from)
{
	Leaf	   *first = walk->leaves + from;
	int			to = from + 1;

	while (first->group != MIXED && to < walk->leaf_count &&
		   walk->leaves[to].group == first->group && walk->leaves[to].after == first->after)
		to++;
	return (Stretch) {.from = from,.count = to - from,.picked = to - from};
}

/* Picks the leaves of a stretch that are looked at: all, or one of each of so many equal parts. */
static int
pick(LeafWalk *walk, const Stretch *stretch, int *picks)
{
	for (int64 i = 0; i < stretch->picked; i++)
	{
		int			from = i * stretch->count / stretch->picked;
		int			to = (i + 1) * stretch->count / stretch->picked;

		picks[i] = stretch->from + (int) pg_prng_uint64_range(&walk->random, from, to - 1);
	}
	return stretch->picked;
}

/* How many leaves of a stretch are to be looked at, by the entries of some of them. */
static int
needed(const Stretch *stretch, const int *entries)
{
	double		n = stretch->picked;
	double		sum = 0;
	double		squares = 0;
	double		most;

	for (int i = 0; i < stretch->picked; i++)
	{
		sum += entries[i];
		squares += (double) entries[i] * entries[i];
	}
	if (sum == 0)
		return stretch->count;
	/* The square of the standard deviation as a part of the mean, by the square of the error */
	most = Max(squares / n - (sum / n) * (sum / n), 0) / ((sum / n) * (sum / n)) / ENOUGH;
	/* Some may have looked more alike than all of them are. */
	most = 2 * most / (1 + most / stretch->count);
	return most >= stretch->count / 2 ? stretch->count : Max((int) most, stretch->picked);
}

/* Adds a stretch up. */
static void
add_stretch(LeafWalk *walk, const Stretch *stretch, const int *entries)
{
	const Leaf *leaf = walk->leaves + stretch->from;
	double		sum = 0;

	if (leaf->group == MIXED)
		return;
	for (int i = 0; i < stretch->picked; i++)
		sum += entries[i];
	add(walk, leaf->group, leaf->after, (int64) rint(sum / stretch->picked * stretch->count));
}

/* Has no more than so many leaves picked, of each stretch a like part, and at least one. */
static void
fit(Stretch *stretches, int count, int64 most)
{
	int64		picked = 0;

	for (int i = 0; i < count; i++)
		picked += stretches[i].picked;
	for (int i = 0; i < count && picked > most; i++)
		stretches[i].picked = Max(stretches[i].picked * most / picked, 1);
}

/*
 * Adds those stretches up of which enough leaves were looked at, or of which no more may be; the
 * others are put first, and say how many it takes.
 */
static int
settle(LeafWalk *walk, Stretch *stretches, int count, const int *entries, int64 most)
{
	Stretch    *wanted = palloc_extended(Max(count, 1) * sizeof(Stretch), MCXT_ALLOC_HUGE);
	int			read = 0;
	int			left = 0;

	for (int i = 0; i < count; read += stretches[i++].picked)
	{
		wanted[i] = stretches[i];
		wanted[i].picked = stretches[i].picked < stretches[i].count ? needed(stretches + i, entries + read) : 0;
	}
	fit(wanted, count, most);
	read = 0;
	for (int i = 0; i < count; i++)
	{
		Stretch		stretch = stretches[i];

		if (wanted[i].picked > stretch.picked)
			stretches[left++] = wanted[i];
		else
			add_stretch(walk, &stretch, entries + read);
		read += stretch.picked;
	}
	pfree(wanted);
	return left;
}

static void
count_stretches(LeafWalk *walk)
{
	int			room = Max(walk->leaf_count, 1);
	Stretch    *stretches = palloc_extended(room * sizeof(Stretch), MCXT_ALLOC_HUGE);
	int		   *picks = palloc_extended(room * sizeof(int), MCXT_ALLOC_HUGE);
	int		   *entries = palloc_extended(room * sizeof(int), MCXT_ALLOC_HUGE);
	int			count = 0;
	int64		most = MOST;

	for (int i = 0; i < walk->leaf_count; i += stretches[count++].count)
	{
		stretches[count] = stretch_at(walk, i);
		if (walk->leaf_count > MANY && stretches[count].count > SHORT)
			stretches[count].picked = Min(Max(stretches[count].count / 8, FEWEST), FEW);
	}
	fit(stretches, count, most);
	/* At first some leaves of each, then as many as are needed of those of which that was not enough */
	for (int round = 0; round < 2 && count > 0; round++)
	{
		int			picked = 0;

		for (int i = 0; i < count; i++)
			picked += pick(walk, stretches + i, picks + picked);
		read_leaves(walk, picks, picked, entries);
		most = round > 0 ? 0 : Max(most - picked, 0);
		count = settle(walk, stretches, count, entries, most);
	}
}

/* The groups, palloc'd.  One of them may be there twice. */
MwLeafGroup *
mw_count_leaves(Relation index, TimestampTz bound, int *count)
{
	LeafWalk	walk = {.index = index,.bound = bound,.group_room = 16,.leaf_room = 256};

	walk.groups = palloc(walk.group_room * sizeof(MwLeafGroup));
	walk.leaves = palloc(walk.leaf_room * sizeof(Leaf));
	/* The same leaves each time: they stay in memory. */
	pg_prng_seed(&walk.random, 1);
	list_leaves(&walk);
	count_stretches(&walk);
	*count = walk.group_count;
	return walk.groups;
}
