/*
 * signals.c
 *		Signal handlers.
 *
 * They are C because they may run between any two instructions, also within
 * Rust's own: they set flags, call what the server's own handlers call, and
 * enter no Rust.  And SIGNAL_ARGS is a macro that differs between majors.
 */
#include "postgres.h"

#include <unistd.h>

#include "access/genam.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "tcop/tcopprot.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timeout.h"

#include "shim.h"

volatile sig_atomic_t mw_overrun = false;
static volatile sig_atomic_t overrun_cancels = false;
static int	overrun_procno = -1;
static int	overrun_ms = 0;
static int	overrun_timeout(void);
static volatile uint32 *bystander_flag = NULL;

/* The server's own handlers, as its launchers have them. */
void
mw_install_signal_handlers(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, die);
}

/*
 * SIGALRM: what runs holds up others.  Wake the launcher, and cancel if told to.
 * What does not heed the cancel was begun later than the timer, so the launcher
 * is woken again when that, too, has taken so long.
 */
static void
on_overrun(void)
{
	mw_overrun = true;
	mw_set_latch(overrun_procno);
	if (overrun_cancels)
	{
		overrun_cancels = false;
		InterruptPending = true;
		QueryCancelPending = true;
		SetLatch(MyLatch);
		enable_timeout_after(overrun_timeout(), overrun_ms);
	}
}

/* Registers the timeout on first use; the id is good for enable_timeout_after(). */
static int
overrun_timeout(void)
{
	static int	id = -1;

	if (id < 0)
		id = RegisterTimeout(USER_TIMEOUT, on_overrun);
	return id;
}

/* Rings after that time, and sets the latch of `procno` then. */
void
mw_overrun_start(int procno, int ms)
{
	mw_overrun = false;
	overrun_cancels = false;
	overrun_procno = procno;
	overrun_ms = ms;
	enable_timeout_after(overrun_timeout(), ms);
}

/* From here on it cancels.  True if it has rung: then that is due at once. */
bool
mw_overrun_cancels(void)
{
	overrun_cancels = true;
	return mw_overrun;
}

void
mw_overrun_again(void)
{
	on_overrun();
}

/* Disarms it.  True if it had rung. */
bool
mw_overrun_stop(void)
{
	disable_timeout(overrun_timeout(), false);
	overrun_procno = -1;
	overrun_cancels = false;
	return mw_overrun;
}

/*
 * SIGQUIT means that the server goes down because of somebody else.  Leave a
 * note of it in the mapped file, then die as SignalHandlerForCrashExit() does.
 */
static void
on_quit(SIGNAL_ARGS)
{
	if (bystander_flag)
		*bystander_flag = 1;
	_exit(2);
}

void
mw_mark_bystander_on_quit(volatile uint32 *flag)
{
	bystander_flag = flag;
	pqsignal(SIGQUIT, on_quit);
}

/* 19 tells its handlers who has sent the signal. */
#if PG_VERSION_NUM >= 190000
#define SIGNAL_PASSED postgres_signal_arg, pg_siginfo
#else
#define SIGNAL_PASSED postgres_signal_arg
#endif

/*
 * The same for what holds leases, which goes on to die as the server has it: a
 * worker's job may hold some, too.  What sigaction() knows cannot be called for
 * that: since 17 it is a function of the server that calls the handler of ours.
 */
static volatile uint32 *session_flag = NULL;

static void
on_session_quit(SIGNAL_ARGS)
{
	if (session_flag)
		*session_flag = 1;
	if (bystander_flag)
		on_quit(SIGNAL_PASSED);
	else if (MyBackendType == B_BG_WORKER)
		SignalHandlerForCrashExit(SIGNAL_PASSED);
	else
		quickdie(SIGNAL_PASSED);
}

void
mw_mark_session_on_quit(volatile uint32 *flag)
{
	session_flag = flag;
	if (IsUnderPostmaster)
		pqsignal(SIGQUIT, on_session_quit);
}
