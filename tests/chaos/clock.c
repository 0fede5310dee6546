/* A clock that jumps, for one program: preloaded, it adds to the wall clock what a file says (nanoseconds, 8 bytes).
 * The host's clock is never touched.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t offset(void)
{
	static volatile int64_t *place;

	if (!place) {
		int fd = open(getenv("CLOCK_OFFSET"), O_RDONLY | O_CLOEXEC);
		void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*place), PROT_READ, MAP_SHARED, fd, 0);

		if (mapped == MAP_FAILED)
			return 0;
		place = mapped;
	}
	return *place;
}

int clock_gettime(clockid_t which, struct timespec *at)
{
	int result = syscall(SYS_clock_gettime, which, at);

	if (!result && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) {
		int64_t now = at->tv_sec * 1000000000LL + at->tv_nsec + offset();

		at->tv_sec = now / 1000000000LL;
		at->tv_nsec = now % 1000000000LL;
	}
	return result;
}

time_t time(time_t *where)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	if (where)
		*where = at.tv_sec;
	return at.tv_sec;
}

int gettimeofday(struct timeval *where, void *zone)
{
	struct timespec at;

	clock_gettime(CLOCK_REALTIME, &at);
	where->tv_sec = at.tv_sec;
	where->tv_usec = at.tv_nsec / 1000;
	return 0;
}
