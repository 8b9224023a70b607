/*
 * hold.c
 *		A lock that a command has over all its transactions, whatever they come to.
 *
 * A lock of the session survives a COMMIT; a ROLLBACK takes it like all others
 * (LockReleaseAll).  So it is taken again before the next statement, which
 * waits if somebody was faster, and fails if the object is gone then.
 */
#include "postgres.h"

#include <signal.h>

#include "access/genam.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "shim.h"

static LOCKTAG tag;
static bool holding = false;
static bool lost = false;

static void
at_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		lost = holding;
}

/* A shared lock on an extension, until mw_release_object() */
void
mw_hold_object_on(Oid class, Oid object)
{
	static bool registered = false;

	if (!registered)
	{
		RegisterXactCallback(at_end, NULL);
		registered = true;
	}
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, class, object, 0);
	(void) LockAcquire(&tag, AccessShareLock, true, false);
	holding = true;
	lost = false;
}

/* Before a statement: takes again what a ROLLBACK took */
void
mw_keep_hold(void)
{
	if (!lost || !IsTransactionState() || IsAbortedTransactionBlockState())
		return;
	(void) LockAcquire(&tag, AccessShareLock, true, false);
	lost = false;
	AcceptInvalidationMessages();
	if (get_extension_oid("my_worker", true) != tag.locktag_field3)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension \"my_worker\" was dropped while the command ran")));
}

void
mw_release_object(void)
{
	if (holding && !lost)
		(void) LockRelease(&tag, AccessShareLock, true);
	holding = lost = false;
}
