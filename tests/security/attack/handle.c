/*
 * The second half: what somebody in a container can do with a handle (descriptor 100) to the runtime's executable.
 * Changes nothing: where it could write, it says so and does not. Exit status 0: nothing can be done; 1: vulnerable.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HANDLE 100
#define PATH "/proc/self/fd/100"
#define OPEN_TREE_CLONE_ 1
#define RDONLY_ 1

static int vulnerable;

static void hole(const char *what)
{
    printf("VULNERABLE: %s\n", what);
    vulnerable = 1;
}

static int sealed(void)
{
    int fd = open(PATH, O_RDONLY);
    int seals = fcntl(fd, F_GET_SEALS);
    char byte;

    if (seals < 0 || !(seals & F_SEAL_WRITE))
        return 0;
    close(fd);
    fd = open(PATH, O_RDWR);
    if (fd >= 0 && pread(fd, &byte, 1, 0) == 1 && pwrite(fd, &byte, 1, 0) == 1)
        hole("the sealed copy can be written to");
    if (fd >= 0 && ftruncate(fd, 0) == 0)
        hole("the sealed copy can be truncated");
    if (!(seals & F_SEAL_SEAL))
        hole("the seals can be changed");
    return 1;
}

static void write_through(const char *path, const char *when)
{
    char what[128];
    struct statvfs filesystem;
    int fd = open(path, O_WRONLY);
    int busy = fd < 0 && errno == ETXTBSY;

    printf("opened for writing %s: %s\n", when, fd < 0 ? strerror(errno) : "success");
    /* Busy comes before read-only, and passes: it only says that some process runs the file just now. */
    if (busy && statvfs(path, &filesystem) == 0 && filesystem.f_flag & ST_RDONLY)
        return;
    if (fd < 0 && !busy)
        return;
    snprintf(what, sizeof what, "can be opened for writing %s%s", when, busy ? ", once nobody runs it" : "");
    hole(what);
}

static void unwrap(const char *when)
{
    struct {
        uint64_t set, clear, propagation, userns;
    } writable = {0, RDONLY_, 0, 0};
    struct stat status;
    char path[64];
    int tree;

    if (syscall(SYS_mount_setattr, HANDLE, "", AT_EMPTY_PATH, &writable, sizeof writable) == 0)
        hole("the mount can be made writable");
    tree = syscall(SYS_open_tree, HANDLE, "", AT_EMPTY_PATH | OPEN_TREE_CLONE_);
    if (tree >= 0) {
        syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &writable, sizeof writable);
        snprintf(path, sizeof path, "/proc/self/fd/%d", tree);
        write_through(path, "through a clone");
        close(tree);
    }
    if (mount(PATH, "/mnt", NULL, MS_BIND, NULL) == 0) {
        mount(NULL, "/mnt", NULL, MS_BIND | MS_REMOUNT, NULL);
        write_through("/mnt", "through a bind mount");
        umount2("/mnt", MNT_DETACH);
    }
    if (mount(NULL, PATH, NULL, MS_BIND | MS_REMOUNT, NULL) == 0)
        hole("the mount can be remounted");
    if (fstat(HANDLE, &status) == 0 && truncate(PATH, status.st_size) == 0)
        hole("can be truncated");
    if (fstat(HANDLE, &status) == 0 && chmod(PATH, status.st_mode & 07777) == 0)
        hole("its mode can be changed");
    write_through(PATH, when);
}

int main(void)
{
    struct statvfs filesystem;

    if (fcntl(HANDLE, F_GETFD) < 0) {
        puts("no handle");
        return 2;
    }
    if (sealed()) {
        puts("handle to a sealed copy");
        return vulnerable;
    }
    if (fstatvfs(HANDLE, &filesystem) == 0)
        puts(filesystem.f_flag & ST_RDONLY ? "handle to a read-only mount" : "handle to a writable mount");
    write_through(PATH, "as it is");
    unwrap("after changes of its mount");
    if (unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0)
        unwrap("from a new user and mount namespace");
    return vulnerable;
}
