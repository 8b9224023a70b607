/*
 * A clock that can be moved and a disk that can be made slow, while a server runs: to be loaded before libc (LD_PRELOAD) into its
 * processes. The file that NATURE names has two numbers, in microseconds: how far the clock is off, and how much longer a flush of
 * a file takes; a write of a page takes a hundredth of that longer. Whoever writes into the file changes both at once.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t still[2];
static const volatile int64_t *nature = still;
static int	(*real_gettimeofday) (struct timeval *, void *);
static int	(*real_clock_gettime) (clockid_t, struct timespec *);
static int	(*real_fsync) (int);
static int	(*real_fdatasync) (int);
static ssize_t (*real_pwrite) (int, const void *, size_t, off_t);

__attribute__((constructor))
static void
begin(void)
{
	const char *path = getenv("NATURE");
	int			file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;

	real_gettimeofday = dlsym(RTLD_NEXT, "gettimeofday");
	real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
	real_fsync = dlsym(RTLD_NEXT, "fsync");
	real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
	real_pwrite = dlsym(RTLD_NEXT, "pwrite");
	if (file >= 0)
	{
		void	   *map = mmap(NULL, sizeof(still), PROT_READ, MAP_SHARED, file, 0);

		if (map != MAP_FAILED)
			nature = map;
		close(file);
	}
}

static int64_t
moved(int64_t micros)
{
	return micros + nature[0];
}

static void
take_time(int64_t micros)
{
	struct timespec pause = {micros / 1000000, micros % 1000000 * 1000};

	if (micros > 0)
		nanosleep(&pause, NULL);
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	int			answer = real_gettimeofday(now, zone);
	int64_t		micros = moved(now->tv_sec * INT64_C(1000000) + now->tv_usec);

	now->tv_sec = micros / 1000000;
	now->tv_usec = micros % 1000000;
	return answer;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int			answer = real_clock_gettime(clock, now);

	if (clock == CLOCK_REALTIME)
	{
		int64_t		micros = moved(now->tv_sec * INT64_C(1000000) + now->tv_nsec / 1000);

		now->tv_sec = micros / 1000000;
		now->tv_nsec = micros % 1000000 * 1000 + now->tv_nsec % 1000;
	}
	return answer;
}

int
fsync(int file)
{
	take_time(nature[1]);
	return real_fsync(file);
}

int
fdatasync(int file)
{
	take_time(nature[1]);
	return real_fdatasync(file);
}

ssize_t
pwrite(int file, const void *bytes, size_t count, off_t place)
{
	take_time(nature[1] / 100);
	return real_pwrite(file, bytes, count, place);
}
