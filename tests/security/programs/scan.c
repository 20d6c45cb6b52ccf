/* What this process can find out about others through /proc.
 *
 * scan PID       every access that would let it take over or read PID, one a line: "NAME: errno" or "NAME -> target"
 * scan watch     until standard input ends, without pause: every distinct thing that any other process lets it see
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
#include <unistd.h>

#define SEEN 512

static char seen[SEEN][PATH_MAX + 64];
static int count;

static void say_once(const char *line)
{
	for (int i = 0; i < count; i++)
		if (strcmp(seen[i], line) == 0)
			return;
	if (count < SEEN)
		strcpy(seen[count++], line);
	puts(line);
	fflush(stdout);
}

static void report(const char *name, const char *target, int all)
{
	char line[PATH_MAX + 64];

	if (target)
		snprintf(line, sizeof line, "%s -> %s", name, target);
	else
		snprintf(line, sizeof line, "%s: %s", name, strerrorname_np(errno));
	if (all)
		puts(line);
	else if (target)
		say_once(line);
}

static void look_at_link(const char *process, const char *name, int all)
{
	char path[PATH_MAX], target[PATH_MAX];
	ssize_t length;

	snprintf(path, sizeof path, "/proc/%s/%s", process, name);
	length = readlink(path, target, sizeof target - 1);
	if (length >= 0)
		target[length] = 0;
	report(name, length >= 0 ? target : NULL, all);
}

static void look_into(const char *process, const char *name, int all)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof path, "/proc/%s/%s", process, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	report(name, fd >= 0 ? "opened" : NULL, all);
	if (fd >= 0)
		close(fd);
}

static void list(const char *process, const char *name, int all)
{
	char path[PATH_MAX];
	struct dirent *entry = NULL;
	DIR *directory;

	snprintf(path, sizeof path, "/proc/%s/%s", process, name);
	directory = opendir(path);
	do
		entry = directory ? readdir(directory) : NULL;
	while (entry && entry->d_name[0] == '.');
	report(name, entry ? entry->d_name : NULL, all);
	if (directory)
		closedir(directory);
}

static void look_at_descriptors(const char *process, int all)
{
	char path[PATH_MAX];
	struct dirent *entry;
	DIR *directory;

	snprintf(path, sizeof path, "/proc/%s/fd", process);
	directory = opendir(path);
	if (!directory) {
		report("fd", NULL, all);
		return;
	}
	while ((entry = readdir(directory)))
		if (atoi(entry->d_name) > 2) {
			snprintf(path, sizeof path, "fd/%.16s", entry->d_name);
			look_at_link(process, path, all);
		}
	closedir(directory);
}

static void look_at(const char *process, int all)
{
	look_at_link(process, "exe", all);
	look_at_link(process, "cwd", all);
	look_at_link(process, "root", all);
	look_at_descriptors(process, all);
	if (all) {
		look_into(process, "fd/0", all);
		look_into(process, "mem", all);
		look_into(process, "environ", all);
		list(process, "map_files", all);
		list(process, "root/", all);
		list(process, "cwd/", all);
		look_at_link(process, "ns/mnt", all);
	}
}

static void look_at_everybody(void)
{
	char me[16];
	struct dirent *entry;
	DIR *directory = opendir("/proc");

	snprintf(me, sizeof me, "%d", getpid());
	while (directory && (entry = readdir(directory)))
		if (atoi(entry->d_name) && strcmp(entry->d_name, me))
			look_at(entry->d_name, 0);
	if (directory)
		closedir(directory);
}

int main(int argc, char **argv)
{
	struct pollfd input = {.fd = 0, .events = POLLIN};

	if (argc != 2)
		return 2;
	if (strcmp(argv[1], "watch")) {
		look_at(argv[1], 1);
		return 0;
	}
	puts("watching");
	fflush(stdout);
	while (poll(&input, 1, 0) == 0)
		look_at_everybody();
	return 0;
}
