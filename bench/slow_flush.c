/*
 * A disk whose flushes take FLUSH_US microseconds longer: to be
 * loaded before libc (LD_PRELOAD) into a server with wal_sync_method = fdatasync. The scenario `enqueue`
 * measures with it what depends on the time of a flush.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

int			fdatasync(int fd);

int
fdatasync(int fd)
{
	static int	(*flush) (int);
	struct timespec pause = {.tv_nsec = FLUSH_US * 1000L};

	if (flush == NULL)
		flush = (int (*) (int)) dlsym(RTLD_NEXT, "fdatasync");
	nanosleep(&pause, NULL);
	return flush(fd);
}
