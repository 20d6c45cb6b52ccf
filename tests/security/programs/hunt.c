/* A container that may trace every process it sees looks for more than it has itself: until standard input ends, if that
 * is a pipe, else for ever.
 *
 * hunt MARK SECRET FILTER
 *
 * MARK    a file of the host, which no root, working directory or descriptor of another process may lead to
 * SECRET  a word in the environment of the runtime's caller, backwards: the runtime may know this program's arguments
 * FILTER  1 if every process in here is to have a seccomp filter
 *
 * Prints every distinct thing that it should not have found, one a line.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SEEN 256

static char seen[SEEN][PATH_MAX + 64];
static int count;
static const char *mark;
static char *secret;
static int filter;
static unsigned long long mine;

static void found(const char *what, const char *more)
{
	char line[PATH_MAX + 64];

	snprintf(line, sizeof line, "%s %s", what, more);
	for (int i = 0; i < count; i++)
		if (strcmp(seen[i], line) == 0)
			return;
	if (count < SEEN)
		strcpy(seen[count++], line);
	puts(line);
	fflush(stdout);
}

static void follow(const char *process, const char *link)
{
	static const char *const ways[] = {"", "/..", "/../../../../../../.."};
	char path[PATH_MAX];

	for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
		snprintf(path, sizeof path, "/proc/%s/%s%s%s", process, link, ways[i], mark);
		if (access(path, F_OK) == 0)
			found("a way to the host:", link);
	}
}

static void rewrite(const char *process, const char *name)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof path, "/proc/%s/%s", process, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		struct stat there, here;

		if (fstat(fd, &there) == 0 && (stat("/bin/busybox", &here) || there.st_ino != here.st_ino))
			found("may be written to:", name);
		close(fd);
	}
}

static void each(const char *process, const char *directory, void (*look)(const char *, const char *))
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *list;

	snprintf(path, sizeof path, "/proc/%s/%s", process, directory);
	list = opendir(path);
	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		if (strcmp(directory, "fd") == 0 && atoi(entry->d_name) < 3)
			continue; /* the caller's, who passes them on */
		snprintf(path, sizeof path, "%s/%.200s", directory, entry->d_name);
		look(process, path);
	}
	if (list)
		closedir(list);
}

static void search(const char *process, const char *name, long long from, long long size)
{
	static char buffer[1 << 20];
	char path[PATH_MAX];
	ssize_t length;
	int fd;

	snprintf(path, sizeof path, "/proc/%s/%s", process, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && size > 0) {
		length = pread(fd, buffer, size < (long long)sizeof buffer ? size : (long long)sizeof buffer, from);
		if (length <= 0)
			break;
		if (memmem(buffer, length, secret, strlen(secret)))
			found("the caller's secret in", name);
		from += length;
		size -= length;
	}
	if (fd >= 0)
		close(fd);
}

static void search_memory(const char *process)
{
	char path[PATH_MAX], line[512];
	unsigned long long from, to;
	char mode[5];
	FILE *maps;

	snprintf(path, sizeof path, "/proc/%s/maps", process);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof line, maps))
		if (sscanf(line, "%llx-%llx %4s", &from, &to, mode) == 3 && mode[0] == 'r' && mode[1] == 'w')
			search(process, "mem", from, to - from);
	if (maps)
		fclose(maps);
}

static void weigh(const char *process)
{
	char path[PATH_MAX], line[256];
	unsigned long long set;
	FILE *status;

	snprintf(path, sizeof path, "/proc/%s/status", process);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof line, status)) {
		if (sscanf(line, "CapPrm: %llx", &set) == 1 && set & ~mine)
			found("more capabilities:", "permitted");
		if (sscanf(line, "CapEff: %llx", &set) == 1 && set & ~mine)
			found("more capabilities:", "effective");
		if (filter && strncmp(line, "Seccomp:\t0", 10) == 0)
			found("without", "a filter");
	}
	if (status)
		fclose(status);
}

/* Stop it wherever it is, and let it go on: what it does must bear that. */
static void interrupt(pid_t process)
{
	if (ptrace(PTRACE_SEIZE, process, 0, 0))
		return;
	ptrace(PTRACE_INTERRUPT, process, 0, 0);
	/* Who is still traced when it ends stays a zombie, for which its parent waits; a busy machine takes its time. */
	for (int i = 0; i < 100000; i++) {
		if (waitpid(process, NULL, __WALL | WNOHANG) < 0 || ptrace(PTRACE_DETACH, process, 0, 0) == 0)
			return;
		usleep(100);
	}
}

static void examine(const char *process)
{
	weigh(process);
	follow(process, "root");
	follow(process, "cwd");
	each(process, "fd", follow);
	rewrite(process, "exe");
	each(process, "map_files", rewrite);
	search(process, "environ", 0, 1 << 20);
	search_memory(process);
	interrupt(atoi(process));
}

static unsigned long long own_capabilities(void)
{
	char line[256];
	unsigned long long set = 0;
	FILE *status = fopen("/proc/self/status", "re");

	while (status && fgets(line, sizeof line, status))
		sscanf(line, "CapPrm: %llx", &set);
	if (status)
		fclose(status);
	return set;
}

static char *backwards(const char *word)
{
	size_t length = strlen(word);
	char *result = calloc(length + 1, 1);

	for (size_t i = 0; i < length; i++)
		result[i] = word[length - 1 - i];
	return result;
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};
	struct stat standard;
	int pipe = fstat(0, &standard) == 0 && S_ISFIFO(standard.st_mode);
	char me[16];

	if (argc != 4)
		return 2;
	mark = argv[1];
	secret = backwards(argv[2]);
	filter = atoi(argv[3]);
	mine = own_capabilities();
	snprintf(me, sizeof me, "%d", getpid());
	puts("hunting");
	fflush(stdout);
	while (!pipe || poll(&input, 1, 0) == 0) {
		struct dirent *entry;
		DIR *directory = opendir("/proc");

		while (directory && (entry = readdir(directory)))
			if (atoi(entry->d_name) && strcmp(entry->d_name, me))
				examine(entry->d_name);
		if (directory)
			closedir(directory);
	}
	return 0;
}
