/*
 * shim.c
 *		The C side of the boundary.  See shim.h.
 *
 * A longjmp may only cross frames that own nothing.  So sigsetjmp stands here,
 * between Rust and the server, and nowhere else: mw_try() catches the ERROR,
 * hands it back as a value, and Rust goes on as after any failed call.
 * FATAL and PANIC end the process inside the server and never come back.
 *
 * The rest is C because it is a macro or an inline function of the server, or a
 * variable or function of another name in another major.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlogrecovery.h"
#include "catalog/pg_control.h"
#include "common/controldata_utils.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/ps_status.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

#include "shim.h"

#if PG_VERSION_NUM >= 180000
static const Pg_magic_struct magic = PG_MODULE_MAGIC_DATA(.name = "my_worker", .version = "1.1.0");
#else
static const Pg_magic_struct magic = PG_MODULE_MAGIC_DATA;
#endif

const void *
mw_magic(void)
{
	return &magic;
}

/* The ERROR that was caught.  To copy it may raise another, for lack of memory. */
static ErrorData *
caught(MemoryContext caller)
{
	static ErrorData no_memory = {
		.elevel = ERROR,.sqlerrcode = ERRCODE_OUT_OF_MEMORY,.message = "out of memory"
	};
	ErrorData  *volatile error = &no_memory;

	PG_TRY();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
	}
	PG_END_TRY();
	FlushErrorState();
	return error;
}

ErrorData *
mw_try(void (*fn) (void *arg), void *arg)
{
	MemoryContext caller = CurrentMemoryContext;
	ErrorData  *volatile error = NULL;
	uint32		holdoff = QueryCancelHoldoffCount;

	PG_TRY();
	{
		fn(arg);
	}
	PG_CATCH();
	{
		error = caught(caller);
		/* which errfinish() has set to 0, so that cancels meant for jobs would reach us */
		QueryCancelHoldoffCount = holdoff;
	}
	PG_END_TRY();
	return error;
}

/* For levels that return: DEBUG5 to WARNING.  May still raise a pending cancel. */
void
mw_report(int elevel, int sqlstate, const char *message, const char *detail, const char *hint)
{
	ereport(elevel,
			(errcode(sqlstate),
			 errmsg_internal("%s", message),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0));
}

void
mw_check_for_interrupts(void)
{
	CHECK_FOR_INTERRUPTS();
}

/* ShmemInitStruct() under the lock that it asks for.  New memory is zeroed. */
void *
mw_shmem_init(const char *name, Size size, bool *found)
{
	void	   *address;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	address = ShmemInitStruct(name, size, found);
	if (!*found)
		memset(address, 0, size);
	LWLockRelease(AddinShmemInitLock);
	return address;
}

int
mw_my_procno(void)
{
#if PG_VERSION_NUM >= 170000
	return MyProcNumber;
#else
	return MyProc->pgprocno;
#endif
}

/* A stale number wakes a stranger, which is harmless: every latch loop re-checks. */
void
mw_set_latch(int procno)
{
	if (procno >= 0 && procno < (int) ProcGlobal->allProcCount)
		SetLatch(&GetPGProcByNumber(procno)->procLatch);
}

/* Grows with each commit or abort of a transaction that had an id (transam.h). */
uint64
mw_completed_transactions(void)
{
	uint64		count;

	LWLockAcquire(ProcArrayLock, LW_SHARED);
#if PG_VERSION_NUM >= 170000
	count = TransamVariables->xactCompletionCount;
#else
	count = ShmemVariableCache->xactCompletionCount;
#endif
	LWLockRelease(ProcArrayLock);
	return count;
}

Size
mw_varsize_any_exhdr(const void *datum)
{
	return VARSIZE_ANY_EXHDR(datum);
}

const char *
mw_vardata_any(const void *datum)
{
	return VARDATA_ANY(datum);
}

/* The type of a column, counted from 1; 0: there is none. */
Oid
mw_column_type(TupleDesc desc, int column)
{
	return column >= 1 && column <= desc->natts
		? TupleDescAttr(desc, column - 1)->atttypid : InvalidOid;
}

/* The bytes of a value that is not compressed and not out of line; NULL of any other. */
const char *
mw_plain_bytes(Datum datum, Size *length)
{
	const struct varlena *value = (struct varlena *) DatumGetPointer(datum);

	if (VARATT_IS_EXTERNAL(value) || VARATT_IS_COMPRESSED(value))
		return NULL;
	*length = VARSIZE_ANY_EXHDR(value);
	return VARDATA_ANY(value);
}

void
mw_set_ps_display(const char *activity)
{
	set_ps_display(activity);
}

/* On a standby: whether somebody has asked for a pause. */
bool
mw_replay_is_paused(void)
{
	return GetRecoveryPauseState() != RECOVERY_NOT_PAUSED;
}

/* What the control file says of the server's last life.  Before recovery only. */
bool
mw_was_shut_down(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		result = crc_ok && (control->state == DB_SHUTDOWNED ||
									control->state == DB_SHUTDOWNED_IN_RECOVERY);

	pfree(control);
	return result;
}

/*
 * The set of events of the client's socket, its first member, and of the latch
 * (libpq/libpq.h, which needs headers that a server's need not come with).
 */
extern PGDLLIMPORT WaitEventSet *FeBeWaitSet;

/*
 * Sleeps like WaitLatch() in a client's session; FATAL if the client goes, as in
 * pq_check_connection().  The server's own check is off unless somebody has set it.
 */
void
mw_wait_for_client(long ms, uint32 event)
{
	WaitEvent	events[3];

	if (FeBeWaitSet == NULL || !WaitEventSetCanReportClosed())
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, ms, event);
	else
	{
		int			count;

		ModifyWaitEvent(FeBeWaitSet, 0, WL_SOCKET_CLOSED, NULL);
		count = WaitEventSetWait(FeBeWaitSet, ms, events, lengthof(events), event);
		for (int i = 0; i < count; i++)
		{
			if (events[i].events & WL_SOCKET_CLOSED)
				ClientConnectionLost = InterruptPending = true;
			if (events[i].events & WL_POSTMASTER_DEATH)
				proc_exit(1);
		}
	}
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * How far the log must be on disk for a transaction that was seen to have committed;
 * 0: as far as it is.  Nobody waits for the disk with transactions that are so old
 * that the server has forgotten how they ended.
 */
XLogRecPtr
mw_commit_lsn(TransactionId xid)
{
	XLogRecPtr	end = InvalidXLogRecPtr;

	if (RecoveryInProgress() || !TransactionIdIsNormal(xid))
		return end;
	LWLockAcquire(XactTruncationLock, LW_SHARED);
#if PG_VERSION_NUM >= 170000
	if (!TransactionIdPrecedes(xid, TransamVariables->oldestClogXid))
#else
	if (!TransactionIdPrecedes(xid, ShmemVariableCache->oldestClogXid))
#endif
		end = TransactionIdGetCommitLSN(xid);
	LWLockRelease(XactTruncationLock);
	return end;
}
