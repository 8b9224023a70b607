/*
 * shim.h
 *		What Rust cannot say itself: sigsetjmp, the module magic, and those
 *		macros and inline functions of the server that differ between majors or
 *		have no symbol.  It knows nothing of jobs.
 */
#ifndef MW_SHIM_H
#define MW_SHIM_H

#include "access/genam.h"
#include "access/itup.h"
#include "executor/executor.h"
#include "pgtime.h"
#include "storage/lwlock.h"

/* The crossing: run fn(arg); NULL, or the ERROR it raised, palloc'd by the caller's context. */
extern ErrorData *mw_try(void (*fn) (void *arg), void *arg);

extern void mw_report(int elevel, int sqlstate, const char *message, const char *detail,
					  const char *hint);

extern const void *mw_magic(void);
extern void mw_check_for_interrupts(void);
extern void *mw_shmem_init(const char *name, Size size, bool *found);
extern int	mw_my_procno(void);
extern void mw_set_latch(int procno);
extern uint64 mw_completed_transactions(void);
extern Size mw_varsize_any_exhdr(const void *datum);
extern const char *mw_vardata_any(const void *datum);
extern Oid	mw_column_type(TupleDesc desc, int column);
extern const char *mw_plain_bytes(Datum datum, Size *length);
extern void mw_set_ps_display(const char *activity);
extern bool mw_was_shut_down(void);
extern bool mw_replay_is_paused(void);
extern XLogRecPtr mw_commit_lsn(TransactionId xid);

/* Tuples, tables and trees, see access.c */
#define MW_STORED_COLUMNS 64
typedef struct MwStored
{
	uint8		length;			/* 0: of any length */
	uint8		alignment;
} MwStored;
extern void mw_slot_read(TupleTableSlot *slot, int column, const MwStored *columns, int count);
extern HeapTuple mw_copy_row(TupleTableSlot *slot, const MwStored *columns, int count,
							 Datum **values, bool **nulls);
extern Datum mw_tuple_attr(HeapTuple tuple, int attno, TupleDesc desc, bool *isnull);
extern Datum mw_index_attr(IndexTuple tuple, int attno, TupleDesc desc, bool *isnull);
extern Form_pg_attribute mw_attribute(TupleDesc desc, int index);
extern bool mw_fetch_row(Relation rel, ItemPointer tid, BlockNumber *pages, TupleTableSlot *slot);
extern int	mw_lock_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);
extern int	mw_delete_row(Relation rel, ItemPointer tid, Snapshot snapshot, CommandId command,
						  bool wait);
extern TransactionId mw_row_xmax(Relation rel, ItemPointer tid, bool *is_multi, bool *only_locked,
								 bool *is_replaced);
extern void mw_lock_buffer(Buffer buffer);
struct TableScanDescData;
extern struct TableScanDescData *mw_table_beginscan(Relation rel, Snapshot snapshot);
extern bool mw_table_next(struct TableScanDescData *scan, TupleTableSlot *slot);
extern void mw_table_endscan(struct TableScanDescData *scan);
extern bool mw_walk(Node *node, bool (*walker) (Node *node, void *context), void *context);
extern bool mw_walk_query(Query *query, bool (*walker) (Node *node, void *context), void *context);
extern int	mw_next_changed(const PlannedStmt *plan, int *position);

/* Rows written many at a time, see append.c: so many wait at most */
#define MW_APPEND_ROWS 128
/* Which rows an index sees: each, few of them, or those with the extremes of a page */
enum {MW_SEES_EACH, MW_SEES_FEW, MW_SEES_EXTREMES};
typedef struct MwAppender MwAppender;
extern MwAppender *mw_append_begin(Relation rel, int count);
extern ResultRelInfo *mw_append_indexes(MwAppender *appender);
extern void mw_append_sort(MwAppender *appender, const uint8 *sees, AttrNumber key);
extern Size mw_append_put(MwAppender *appender, int row, const Datum *values, const bool *nulls,
						  bool few);
extern void mw_append_write(MwAppender *appender, int from, int end);
extern void mw_append_forget(MwAppender *appender, int count);
extern void mw_append_end(MwAppender *appender);
extern void mw_insert_bare(Relation rel, TupleTableSlot *slot, CommandId command);
extern void mw_insert_row(ResultRelInfo *result, TupleTableSlot *slot, EState *estate);

/*
 * Entries of a btree index on (oid, text, integer, timestamptz, ...) by its
 * leaf pages, see leaves.c: for each pair of the first two columns one group, or two.
 */
typedef struct MwLeafGroup
{
	Oid			first;
	Datum		second;			/* a text */
	int64		until;			/* entries whose time is not after the bound */
	int64		after;			/* the others */
} MwLeafGroup;
extern MwLeafGroup *mw_count_leaves(Relation index, TimestampTz bound, int *count);

/* Signal handlers, which must be C */
extern volatile sig_atomic_t mw_overrun;
extern void mw_overrun_start(int procno, int ms);
extern bool mw_overrun_cancels(void);
extern void mw_overrun_again(void);
extern bool mw_overrun_stop(void);
extern void mw_install_signal_handlers(void);
extern void mw_mark_bystander_on_quit(volatile uint32 *flag);
extern void mw_mark_session_on_quit(volatile uint32 *flag);
extern void mw_wait_for_client(long ms, uint32 event);

#endif
