/* What the tests of learn record: each word on the command line is something to do. Static, so that it needs little. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_trap(int number)
{
    static const char text[] = "trapped\n";
    (void)number;
    if (write(1, text, sizeof text - 1) < 0)
        _exit(9);
}

static void *in_thread(void *unused)
{
    int i;

    for (i = 0; i < 500; i++)
        syscall(SYS_gettid);
    return unused;
}

static int threads(void)
{
    pthread_t all[4];
    int i;

    for (i = 0; i < 4; i++)
        if (pthread_create(&all[i], NULL, in_thread, NULL))
            return 8;
    for (i = 0; i < 4; i++)
        pthread_join(all[i], NULL);
    return 0;
}

static int listener(void)
{
    struct sock_filter allow = {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW};
    struct sock_fprog program = {1, &allow};

    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program) < 0 ? errno : 0;
}

int main(int count, char **words)
{
    int i, status = 0;

    for (i = 1; i < count; i++) {
        if (!strcmp(words[i], "mkdir"))
            printf("mkdir %d\n", mkdir("/tmp/made", 0700) ? errno : 0);
        else if (!strcmp(words[i], "more"))
            printf("more %d\n", getpriority(PRIO_PROCESS, 0) < 0 ? errno : 0);
        else if (!strcmp(words[i], "numbers")) {
            long number;

            for (number = 100000; number < 105000; number++)
                syscall(number);
        } else if (!strcmp(words[i], "threads"))
            status = threads();
        else if (!strcmp(words[i], "handle"))
            signal(SIGSYS, on_trap);
        else if (!strcmp(words[i], "listener"))
            printf("listener %d\n", listener());
        else if (!strcmp(words[i], "work")) {
            while (syscall(SYS_gettid) > 0)
                ;
            status = 6;
        } else if (!strcmp(words[i], "pause"))
            pause();
#if defined(__x86_64__)
        else if (!strcmp(words[i], "i386")) {
            long number = 20; /* getpid(2) of i386 */
            __asm__ volatile("int $0x80" : "+a"(number) : : "memory");
        }
#endif
        else
            status = 7;
        fflush(stdout);
    }
    return status;
}
