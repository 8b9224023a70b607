/*
 * shim.h
 *		What Rust cannot say itself: sigsetjmp, the module magic, and those
 *		macros and inline functions of the server that differ between majors or
 *		have no symbol.  It knows nothing of jobs.
 */
#ifndef MW_SHIM_H
#define MW_SHIM_H

#include "access/genam.h"
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
extern void mw_column_types(TupleDesc desc, Oid *types, int count);
extern bool mw_text_is(Datum text, const char *bytes, Size length);
extern void mw_set_ps_display(const char *activity);
extern bool mw_was_shut_down(void);
extern bool mw_replay_is_paused(void);

/* Tuples and tables */
extern Datum mw_slot_attr(TupleTableSlot *slot, int attno, bool *isnull);
extern HeapTuple mw_slot_copy(TupleTableSlot *slot);
extern int	mw_lock_row(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot);
extern TransactionId mw_row_holder(Relation rel, ItemPointer tid, int *pid);
extern int	mw_delete_row(Relation rel, ItemPointer tid, Snapshot snapshot);
extern int	mw_delete_rows_unseen(Relation rel, ItemPointerData *tids, int count,
								  Snapshot snapshot);
extern Datum mw_tuple_attr(HeapTuple tuple, int attno, TupleDesc desc, bool *isnull);
extern Datum mw_call(FmgrInfo *function, int nargs, const Datum *args, bool *isnull);

/* Scans that end in time, and of whole tables: see bounded.c */
extern IndexScanDesc mw_bounded_beginscan(Relation heap, Relation index, Snapshot snapshot,
										  int nkeys);
extern int	mw_bounded_next(IndexScanDesc scan, TupleTableSlot *slot, int64 *budget);
extern Datum mw_bounded_value(IndexScanDesc scan, int attno, bool *isnull);
extern bool mw_first_entry(Relation heap, Relation index, Snapshot snapshot, ScanKey keys,
						   int nkeys, NullableDatum *values, int count);
extern int	mw_delete_free_row(Relation rel, ItemPointer tid, Snapshot snapshot);
extern bool mw_has_delete_triggers(Relation rel);
struct TableScanDescData;
extern struct TableScanDescData *mw_table_beginscan(Relation rel, Snapshot snapshot);
extern bool mw_table_next(struct TableScanDescData *scan, TupleTableSlot *slot);
extern void mw_table_endscan(struct TableScanDescData *scan);

extern Oid *mw_behind_view(Oid view, int *count);
extern bool mw_is_strange_condition(const char *condition, Oid owner);

/* COPY FROM STDIN, see copy.c */
struct QueryCompletion;
struct QueryEnvironment;
extern void mw_client_copy(PlannedStmt *planned, const char *query,
						   struct QueryEnvironment *environment,
						   struct QueryCompletion *completion, Oid table);

/* The lock of the command that runs, see hold.c */
extern void mw_hold_object_on(Oid class, Oid object);
extern void mw_keep_hold(void);
extern void mw_release_object(void);
extern uint64 mw_role_settings(Oid database, Oid role);

typedef struct MwAppender MwAppender;
extern bool mw_is_pristine(Relation rel, const Oid *types, int columns, uint64 filled,
						   const char *check);
extern MwAppender *mw_append_begin(Relation rel, const Oid *types, int columns, uint64 filled,
								   const char *check);
extern bool mw_append_failed;
extern bool mw_has_deferred_triggers(Oid table);
extern void mw_append_row(MwAppender *appender, const Datum *values, const bool *nulls);
extern void mw_append_show(PlannedStmt *statement);
extern void mw_append_end(MwAppender *appender);

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

/* What users name, see named.c.  Strings are palloc'd; NULL: there is none. */
extern pg_tz *mw_find_timezone(const char *name);
extern void mw_refuse_value(const char *detail, const char *hint);
extern Oid	mw_routine_with_types(text *signature);
extern char *mw_describe_routine(Oid routine);
extern char *mw_routines_named(text *name, int most);
extern void mw_run_outside_script(const char *sql);

/* Commands at top level, see command.c */
extern void mw_command_run(const char *sql, const char *label, MemoryContext context,
						   int timeout_ms, char *tag);
extern void mw_command_abort(void);
extern void mw_discard_all(void);

/* Whether SET CONSTRAINTS was used since this was set to false */
extern bool mw_constraints_set;
extern void mw_watch_constraints(void);

/* Whether a job has left in the process what cannot be taken away */
extern bool mw_is_stained(void);

/* Signal handlers, which must be C */
extern volatile sig_atomic_t mw_overrun;
extern void mw_overrun_start(int procno, int ms);
extern bool mw_overrun_cancels(void);
extern void mw_overrun_again(void);
extern bool mw_overrun_stop(void);
extern void mw_install_signal_handlers(void);
extern void mw_be_quiet(void);
extern void mw_mark_bystander_on_quit(volatile uint32 *flag);

#endif
