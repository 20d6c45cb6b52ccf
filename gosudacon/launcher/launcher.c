/*
 * The command "gosudacon": starts the Python interpreter, sealed.
 *
 * The text of a process that enters a container must not be a file of the host that somebody can
 * write to, because the container gets a handle to it through /proc/<pid>/exe (CVE-2019-5736).
 * So the interpreter runs from a clone of its own mount that is read-only and belongs to no mount
 * namespace any more: open_tree(2) makes the clone, mount_setattr(2) makes it read-only, and the
 * descriptor, the last thing through which it could be made writable again, is close-on-exec, so
 * that execve dissolves the clone's namespace before the first instruction of Python.
 *
 * Where the kernel or a missing privilege forbids this, Python starts without the seal and without
 * the option that claims it; gosudacon.linux.seal then finds another way or refuses. It never takes
 * the option for a proof: it asks the kernel.
 *
 * Free-standing (no C library): a static glibc costs half a millisecond at every start, most of it
 * in questions to the processor that a hypervisor has to answer.
 *
 * `gosudacon install` writes the paths into the slots below; it finds them by their tags.
 */
#include <stddef.h>
#include <stdint.h>

#define SLOT_SIZE 4096 /* PATH_MAX */

struct slot {
    char tag[32];
    char path[SLOT_SIZE];
};

/* In .data and volatile: the compiler must read what is in the file, not what is written here. */
static volatile struct slot interpreter = {"gosudacon-slot:interpreter", ""};
static volatile struct slot name = {"gosudacon-slot:name", ""};
static volatile struct slot entry = {"gosudacon-slot:entry", ""};

enum {
    AT_FDCWD_ = -100,
    AT_EMPTY_PATH_ = 0x1000,
    R_OK_ = 4,
    OPEN_TREE_CLONE_ = 1,
    OPEN_TREE_CLOEXEC_ = 02000000,
    MOUNT_ATTR_RDONLY_ = 0x1,
    MOUNT_ATTR_NOSUID_ = 0x2,
    MOUNT_ATTR_NODEV_ = 0x4,
    ENOENT_ = 2,
    ENOEXEC_ = 8,
    EACCES_ = 13,
    ENOTDIR_ = 20,
    SIG_BLOCK_ = 0,
    SIGHUP_ = 1,
    SIGINT_ = 2,
    SIGTERM_ = 15,
    SYS_open_tree = 428,
    SYS_mount_setattr = 442,
};

struct mount_attr_ {
    uint64_t set, clear, propagation, userns_fd;
};

/* The kernel enters here with argc, argv and envp on the stack; start() gets their address. */
#if defined(__x86_64__)
enum {
    SYS_write = 1,
    SYS_rt_sigprocmask = 14,
    SYS_execve = 59,
    SYS_exit_group = 231,
    SYS_faccessat = 269,
    SYS_execveat = 322,
};

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call start\n");

static long call(long number, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum {
    SYS_faccessat = 48,
    SYS_write = 64,
    SYS_exit_group = 94,
    SYS_rt_sigprocmask = 135,
    SYS_execve = 221,
    SYS_execveat = 281,
};

__asm__(".globl _start\n"
        "_start:\n"
        "    mov x29, xzr\n"
        "    mov x30, xzr\n"
        "    mov x0, sp\n"
        "    bl start\n");

static long call(long number, long a, long b, long c, long d, long e)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4)
                     : "memory");
    return x0;
}
#else
#error "no system call entry for this architecture; gosudacon works without the launcher"
#endif

/* The mount that holds nothing but the interpreter, read-only; below zero where that is impossible. */
static long sealed_clone(const char *path)
{
    struct mount_attr_ attr = {MOUNT_ATTR_RDONLY_ | MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NODEV_, 0, 0, 0};
    long tree = call(SYS_open_tree, AT_FDCWD_, (long)path, OPEN_TREE_CLONE_ | OPEN_TREE_CLOEXEC_, 0, 0);

    if (tree < 0 || call(SYS_mount_setattr, tree, (long)"", AT_EMPTY_PATH_, (long)&attr, sizeof attr) < 0)
        return -1;
    return tree;
}

static void say(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    call(SYS_write, 2, (long)text, (long)length, 0, 0);
}

static const char *reason(long error)
{
    switch (-error) {
    case ENOENT_:
    case ENOTDIR_:
        return ": no such file or directory";
    case EACCES_:
        return ": permission denied";
    case ENOEXEC_:
        return ": exec format error";
    default:
        return ": not possible";
    }
}

__attribute__((noreturn)) static void fail(const char *what, const char *path, long error)
{
    say("gosudacon: ");
    say(what);
    say(path[0] ? path : "(no path: this launcher has not been installed)");
    say(reason(error));
    say("; run \"gosudacon install\" with the Python that is to be used\n");
    call(SYS_exit_group, 1, 0, 0, 0, 0);
    __builtin_unreachable();
}

__attribute__((noreturn, used)) void start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    char **envp = argv + argc + 1;
    const char *python = (const char *)interpreter.path;
    const char *script = (const char *)entry.path;
    const char *args[argc + 6];
    const uint64_t held = 1 << (SIGHUP_ - 1) | 1 << (SIGINT_ - 1) | 1 << (SIGTERM_ - 1);
    long n = 0, tree, error;

    /* The interpreter finds its library from its name: gosudacon/launcher/home.py. */
    args[n++] = call(SYS_faccessat, AT_FDCWD_, (long)name.path, R_OK_, 0, 0) < 0 ? python : (const char *)name.path;
    args[n++] = "-ISB"; /* isolated from environment and user, no site, no bytecode written */
    args[n++] = "-Xutf8";
    args[n++] = "-Xgosudacon=tree";
    args[n++] = script;
    for (long i = 1; i < argc; i++)
        args[n++] = argv[i];
    args[n] = NULL;

    error = call(SYS_faccessat, AT_FDCWD_, (long)script, R_OK_, 0, 0);
    if (error < 0)
        fail("cannot read ", script, error);
    /* Until gosudacon.linux.interrupt can answer: amid its own start Python reports SIGINT as a traceback. */
    call(SYS_rt_sigprocmask, SIG_BLOCK_, (long)&held, 0, sizeof held, 0);
    tree = sealed_clone(python);
    if (tree >= 0)
        call(SYS_execveat, tree, (long)"", (long)args, (long)envp, AT_EMPTY_PATH_);
    args[3] = "-Xgosudacon=none";
    error = call(SYS_execve, (long)python, (long)args, (long)envp, 0, 0);
    fail("cannot start the interpreter ", python, error);
}
