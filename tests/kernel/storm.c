/* What agents do to be hard to name. Run as `storm MODE HOST PORT WORD...`; each connection is one, and says who made it:
 * a line `PID MODE WORD` on standard output, written before it connects.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TRIES = 500, SLOTS = 24, KINDS = 8, LONG = 3000, EVERY_URING = 40 };

static char *self, *host, *port;

static struct sockaddr_in target(void)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};

	inet_pton(AF_INET, host, &to.sin_addr);
	return to;
}

static void say(const char *mode, const char *word)
{
	char line[128];
	int size = snprintf(line, sizeof(line), "%d %s %s\n", getpid(), mode, word);

	if (write(1, line, size) != size)
		_exit(3);
}

/* The fence refuses more than so many flows a second; a refused one is none. */
static int connected(void)
{
	struct sockaddr_in to = target();

	for (int i = 0; i < TRIES; i++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (!connect(fd, (void *)&to, sizeof(to)))
			return fd;
		close(fd);
		usleep(20000);
	}
	perror("connect");
	_exit(4);
}

/* Connect by io_uring, in one of its workers: a kernel thread with a name of its own. -1: this kernel has none. */
static int connected_by_ring(void)
{
	struct io_uring_params params = {};
	struct sockaddr_in to = target();
	int fd = socket(AF_INET, SOCK_STREAM, 0), ring = syscall(SYS_io_uring_setup, 4, &params);

	if (ring < 0)
		return -1;
	size_t size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
	char *sq = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	struct io_uring_sqe *sqe = mmap(0, params.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQES);

	memset(sqe, 0, sizeof(*sqe));
	sqe->opcode = IORING_OP_CONNECT;
	sqe->flags = IOSQE_ASYNC;
	sqe->fd = fd;
	sqe->addr = (unsigned long)&to;
	sqe->off = sizeof(to);
	((unsigned *)(sq + params.sq_off.array))[0] = 0;
	__atomic_store_n((unsigned *)(sq + params.sq_off.tail), 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) != 1)
		return -1;
	return fd;
}

static void *connect_here(void *word)
{
	say("thread", word);
	close(connected());
	return NULL;
}

static void *become(void *arguments)
{
	execv(self, arguments);
	_exit(5);
}

static void run(char *mode, char *word)
{
	static char more[LONG + 1];
	char *arguments[] = {"agent", mode, host, port, word, NULL, NULL};

	if (!strcmp(mode, "long")) {
		memset(more, 'x', LONG);
		arguments[5] = more;
	}
	execv(self, arguments);
	_exit(5);
}

/* Return when the child may be forgotten: it is waited for later. */
static void one(int number)
{
	static char *modes[KINDS] = {"one", "vfork", "fork", "thread", "texec", "orphan", "lie", "long"};
	char word[16], *mode = number % EVERY_URING ? modes[number % KINDS] : "ring";
	pthread_t thread;

	snprintf(word, sizeof(word), "%d", number);
	if (!strcmp(mode, "thread")) {
		pthread_create(&thread, NULL, connect_here, word);
		pthread_join(thread, NULL);
		return;
	}
	pid_t child = !strcmp(mode, "vfork") ? vfork() : fork();

	if (child)
		return;
	if (!strcmp(mode, "fork")) {
		say(mode, word);
		close(connected());
		_exit(0);
	}
	if (!strcmp(mode, "orphan") && fork())
		_exit(0);
	run(mode, word);
}

static int many(int count)
{
	int running = 0;

	for (int i = 0; i < count; i++) {
		int thread = i % EVERY_URING && i % KINDS == 3;

		one(i);
		running += !thread;
		for (; running >= SLOTS; running--)
			wait(NULL);
	}
	while (wait(NULL) > 0)
		;
	return 0;
}

/* One thread connects again and again while another execs: every record is of either image, never of both. */
static void *hurry(void *word)
{
	for (;;) {
		struct sockaddr_in to = target();
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		connect(fd, (void *)&to, sizeof(to));
		close(fd);
	}
	return word;
}

int main(int argc, char **argv)
{
	char *mode = argv[1], *word = argc > 4 ? argv[4] : "";
	pthread_t thread;

	self = realpath("/proc/self/exe", NULL);
	host = argv[2];
	port = argv[3];
	if (!strcmp(mode, "many"))
		return many(atoi(word));
	if (!strcmp(mode, "texec")) {
		char *arguments[] = {"agent", "texeced", host, port, word, NULL};

		pthread_create(&thread, NULL, become, arguments);
		pause();
	}
	if (!strcmp(mode, "race")) {
		char *arguments[] = {"agent", "raced", host, port, word, NULL};

		pthread_create(&thread, NULL, hurry, word);
		usleep(2000 + rand() % 1000);
		execv(argv[5], arguments);
		return 5;
	}
	if (!strcmp(mode, "hand")) { /* connect, and become another program that holds the socket */
		int fd = connected();
		char *arguments[] = {"agent", "handed", host, port, word, NULL};

		say(mode, word);
		dup2(fd, 0);
		execv(argv[5], arguments);
		return 5;
	}
	if (!strcmp(mode, "keep")) { /* connect, and become another when told to */
		char byte, *arguments[] = {"agent", "kept", host, port, word, NULL};
		int fd = connected();

		say(mode, word);
		if (read(0, &byte, 1) < 0 || dup2(fd, 0) < 0)
			return 5;
		execv(argv[5], arguments);
		return 5;
	}
	if (!strcmp(mode, "kept")) { /* 0: the other side has closed */
		char byte;
		long got = read(0, &byte, 1);

		return got != 0 && !(got < 0 && errno == ECONNRESET);
	}
	if (!strcmp(mode, "stay")) { /* until the other side closes */
		char byte;
		int fd = connected();

		return read(fd, &byte, 1) > 0;
	}
	if (!strcmp(mode, "handed")) {
		char byte;

		return read(0, &byte, 1) > 1;
	}
	say(mode, word);
	if (!strcmp(mode, "later")) { /* when it is told to, and until the other side closes */
		char byte;

		return read(0, &byte, 1) < 0 || read(connected(), &byte, 1) > 0;
	}
	if (!strcmp(mode, "lie"))
		prctl(PR_SET_NAME, "sshd");
	if (strcmp(mode, "ring") || connected_by_ring() < 0)
		close(connected());
	return 0;
}
