/*
 * stain.c
 *		Whether a job has brought a library into this process that keeps what
 *		cannot be taken away: connections to other servers, for one.
 *
 * The dynamic loader counts what it has loaded, and the count is had without a
 * look at the libraries; they are looked through when it has changed.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "postgres.h"

#include <signal.h>

#ifdef __linux__
#include <link.h>
#endif

#include "access/genam.h"
#include "executor/executor.h"
#include "fmgr.h"

#include "storage/lwlock.h"
#include "utils/rel.h"
#include "utils/snapshot.h"

#include "shim.h"

/* Clients of other servers, and modules with a state of their own: how their names begin. */
static const char *const keepers[] = {
	"libpq.so", "dblink.so", "postgres_fdw.so", "isn.so",
	"libmysqlclient.so", "libmariadb.so", "libclntsh.so", "libodbc.so", "libsybdb.so",
	"libmongoc", "libhiredis.so"
};

#ifdef __linux__
typedef struct Look
{
	unsigned long long loaded;	/* as the loader counts */
	bool		through;		/* look at all of them */
	int			found;			/* of the keepers */
} Look;

static int
visit(struct dl_phdr_info *info, size_t size, void *arg)
{
	Look	   *look = arg;
	const char *name = strrchr(info->dlpi_name, '/');

	look->loaded = info->dlpi_adds;
	if (!look->through)
		return 1;
	name = name ? name + 1 : info->dlpi_name;
	for (int i = 0; i < lengthof(keepers); i++)
		if (strncmp(name, keepers[i], strlen(keepers[i])) == 0)
			look->found++;
	return 0;
}
#endif

/*
 * True from when a keeper has come that was not there at the first call, which
 * is made before any job.
 */
bool
mw_is_stained(void)
{
#ifdef __linux__
	static unsigned long long known = 0;
	static int	first = -1;
	static bool stained = false;
	Look		look = {0, false, 0};

	(void) dl_iterate_phdr(visit, &look);
	if (look.loaded == known)
		return stained;
	look.through = true;
	(void) dl_iterate_phdr(visit, &look);
	known = look.loaded;
	if (first < 0)
		first = look.found;
	stained |= look.found > first;
	return stained;
#else
	return false;
#endif
}
