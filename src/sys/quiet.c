/*
 * quiet.c
 *		What the log does not say of our processes.
 *
 * The text of a command is its owner's, and no line may show it.  And an orderly
 * stop is no news: a process that was told to end says so itself where it was
 * in the middle of a job.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/parallel.h"
#include "executor/executor.h"
#include "postmaster/bgworker.h"
#include "storage/lwlock.h"
#include "utils/elog.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "shim.h"

static emit_log_hook_type next_hook = NULL;

/* Whether this is a process of ours, or helps one with a statement */
static bool
is_ours(void)
{
	if (MyBgworkerEntry == NULL)
		return false;
	if (IsParallelWorker())
		return application_name != NULL && strncmp(application_name, "my_worker ", 10) == 0;
	return strcmp(MyBgworkerEntry->bgw_library_name, "my_worker") == 0;
}

static void
on_log(ErrorData *edata)
{
	if (is_ours())
	{
		edata->hide_stmt = true;
		if (edata->elevel == FATAL && edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
			edata->output_to_server = false;
	}
	if (next_hook)
		next_hook(edata);
}

/* From _PG_init(), in a process that may become one of ours */
void
mw_be_quiet(void)
{
	next_hook = emit_log_hook;
	emit_log_hook = on_log;
}
