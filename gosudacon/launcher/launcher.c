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
 * The interpreter gets an environment that cannot steer it: -I does not cover all that it and the C
 * library read. So every name is hidden: the first byte of each entry gets its high bit. Nothing
 * looks for a name that begins like that. gosudacon.__main__ shows them again before anything reads
 * them. Nothing is copied, and /proc/<pid>/environ is as private as before.
 *
 * If the interpreter is not the file that was there at the installation, or the loader is damaged,
 * the interpreter runs "recover" in its place, a source file that any Python 3 can read.
 *
 * Where the kernel or a missing privilege forbids the seal, Python starts without the seal and without
 * the option that claims it; gosudacon.launcher.seal then finds another way or refuses. It never takes
 * the option for a proof: it asks the kernel.
 *
 * As the shim of containerd, which has a word in its slot, it first tries to do without Python: a template
 * that listens makes the process that is wanted (gosudacon/shim/template.py), and of a container that is
 * gone nothing is left to be deleted (gosudacon/shim/remains.py). In any doubt Python does it.
 *
 * Free-standing (no C library): a static glibc costs half a millisecond at every start, most of it
 * in questions to the processor that a hypervisor has to answer.
 *
 * `gosudacon install` writes the paths into the slots below; it finds them by their tags.
 */
#include <stddef.h>

#include "kernel.h"
#include "pages.h"

#define SLOT_SIZE 4096 /* PATH_MAX */

struct slot {
    char tag[32];
    char path[SLOT_SIZE];
};

/* What the files were at the installation. */
struct stamp {
    char tag[32];
    uint64_t size, seconds, nanoseconds; /* of the interpreter */
    uint64_t loader_sum, recover_sum;
};

/* In .data and volatile: the compiler must read what is in the file, not what is written here. */
static volatile struct slot interpreter = {"gosudacon-slot:interpreter", ""};
static volatile struct slot link = {"gosudacon-slot:link", ""}; /* leads to the interpreter; of a venv, for example */
static volatile struct slot name = {"gosudacon-slot:name", ""};
static volatile struct slot loader = {"gosudacon-slot:loader", ""};
static volatile struct slot recover = {"gosudacon-slot:recover", ""};
static volatile struct slot word = {"gosudacon-slot:word", ""};         /* what is put before the arguments, if anything */
static volatile struct slot template = {"gosudacon-slot:template", ""}; /* the socket of the shims' template */
static volatile struct stamp stamp = {"gosudacon-slot:stamp", 0, 0, 0, 0, 0};

enum {
    ANSWER_MAX = 1 << 16, /* bytes */
    FILE_MAX = 1 << 16,   /* more than loader and recover have */
    HIDDEN = 0x80,
};

/* The mount that holds nothing but the interpreter, read-only; below zero where that is impossible. */
static long sealed_clone(const char *path)
{
    struct mount_attr_ attr = {MOUNT_ATTR_RDONLY_ | MOUNT_ATTR_NOSUID_ | MOUNT_ATTR_NODEV_, 0, 0, 0};
    long tree = call(SYS_open_tree, AT_FDCWD_, (long)path, OPEN_TREE_CLONE_ | OPEN_TREE_CLOEXEC_, 0, 0);

    if (tree < 0 || call(SYS_mount_setattr, tree, (long)"", AT_EMPTY_PATH_, (long)&attr, sizeof attr) < 0)
        return -1;
    return tree;
}

static size_t length_of(const char *text)
{
    size_t length = 0;

    while (text[length])
        length++;
    return length;
}

static void say(const char *text)
{
    call(SYS_write, 2, (long)text, (long)length_of(text), 0, 0);
}

static const char *reason(long error)
{
    switch (-error) {
    case ENOENT_:
    case ENOTDIR_:
        return ": no such file or directory";
    case EACCES_:
        return ": permission denied";
    case EBADMSG_:
        return ": the file is damaged";
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

/* Whether a file is the interpreter of the installation: 1, 0 or an error below zero. */
static long is_known(const char *path)
{
    struct statx_ now;
    long error = call(SYS_statx, AT_FDCWD_, (long)path, 0, STATX_SIZE_MTIME_, (long)&now);

    if (error < 0)
        return error;
    return now.size == stamp.size && (uint64_t)now.modification.seconds == stamp.seconds &&
           now.modification.nanoseconds == stamp.nanoseconds;
}

/* Where a link leads to, whatever links are on the way; below zero if nowhere. */
static long follow(const char *path, char *target)
{
    char self[] = "/proc/self/fd/\0\0\0\0\0\0\0\0\0\0\0";
    char digits[12];
    long fd = call(SYS_openat, AT_FDCWD_, (long)path, O_PATH_ | O_CLOEXEC_, 0, 0);
    long left = fd, count = 0, size;

    if (fd < 0)
        return fd;
    do
        digits[count++] = (char)('0' + left % 10);
    while (left /= 10);
    for (char *to = self + length_of(self); count > 0;)
        *to++ = digits[--count];
    size = call(SYS_readlinkat, AT_FDCWD_, (long)self, (long)target, SLOT_SIZE - 1, 0);
    call(SYS_close, fd, 0, 0, 0, 0);
    target[size < 0 ? 0 : size] = '\0';
    return size;
}

/* 0 if the content of a file is what was installed. gosudacon.launcher.program.sum_of is the same in Python. */
static long check(const char *path, uint64_t expected)
{
    static uint64_t words[FILE_MAX / sizeof(uint64_t)];
    uint64_t sum = 0;
    long size = 0, got;
    long fd = call(SYS_openat, AT_FDCWD_, (long)path, O_CLOEXEC_, 0, 0);

    if (fd < 0)
        return fd;
    while ((got = call(SYS_read, fd, (long)((char *)words + size), FILE_MAX - size, 0, 0)) > 0)
        size += got;
    call(SYS_close, fd, 0, 0, 0, 0);
    if (got < 0)
        return got;
    for (long i = size; i % 8; i++)
        ((char *)words)[i] = 0;
    for (long i = 0; i < (size + 7) / 8; i++) {
        sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15;
        sum ^= sum >> 32;
    }
    return (sum ^ (uint64_t)size) == expected ? 0 : -EBADMSG_;
}

/* Whether the high bit alone does not tell this entry of the environment from any other: it gets a byte more. */
static int is_odd(const char *text)
{
    unsigned char first = (unsigned char)text[0];

    return first == '\0' || first == '=' || first >= HIDDEN;
}

/* How many bytes `hide` needs for the odd entries. */
static size_t room_for(char **envp)
{
    size_t room = 0;

    for (; *envp; envp++)
        room += is_odd(*envp) ? length_of(*envp) + 2 : 0;
    return room;
}

/* Fill `environment` with the entries of envp, as nothing looks for them. */
static void hide(char **envp, char **environment, char *room)
{
    *environment++ = "LC_ALL=C"; /* no file of a locale is read; -X utf8 does what it would be read for */
    for (; *envp; envp++) {
        const char *text = *envp;

        *environment++ = is_odd(text) ? room : *envp;
        if (!is_odd(text)) {
            (*envp)[0] |= (char)HIDDEN;
            continue;
        }
        *room++ = (char)HIDDEN;
        while ((*room++ = *text++))
            ;
    }
    *environment = NULL;
}

static int is_word(const char *text, const char *other)
{
    while (*text && *text == *other)
        text++, other++;
    return *text == *other;
}

/* All of it, or nothing to rely on. */
static int write_all(long fd, const char *data, size_t size)
{
    while (size) {
        long sent = call(SYS_write, fd, (long)data, (long)size, 0, 0);

        if (sent <= 0)
            return 0;
        data += sent;
        size -= (size_t)sent;
    }
    return 1;
}

struct address {
    uint16_t family;
    char path[108];
};

struct piece {
    const void *data;
    size_t size;
};

struct message {
    void *name;
    uint32_t name_size, pad;
    struct piece *pieces;
    size_t count;
    void *control;
    size_t control_size;
    int32_t flags;
};

/* struct cmsghdr and two descriptors */
struct rights {
    size_t size;
    int32_t level, kind, directory, input;
};

/* A connection to who listens at a path; below zero if nobody does. Flags are those of the socket. */
static long connect_to(const char *path, size_t size, int32_t flags)
{
    struct address address = {AF_UNIX_, ""};
    long fd, error;

    if (!size || size >= sizeof address.path)
        return -ENOENT_;
    for (size_t i = 0; i < size; i++)
        address.path[i] = path[i];
    fd = call(SYS_socket, AF_UNIX_, SOCK_STREAM_ | O_CLOEXEC_ | flags, 0, 0, 0);
    if (fd < 0)
        return fd;
    error = call(SYS_connect, fd, (long)&address, sizeof address, 0, 0);
    if (error < 0) {
        call(SYS_close, fd, 0, 0, 0, 0);
        return error;
    }
    return fd;
}

/* Arguments and environment, which the kernel lays out one after the other, and with them two descriptors. */
static int send_request(long fd, long argc, char **argv, char **envp)
{
    char **last = envp;
    char *end;
    long directory = call(SYS_openat, AT_FDCWD_, (long)".", O_CLOEXEC_, 0, 0);
    struct rights rights = {24, SOL_SOCKET_, SCM_RIGHTS_, (int32_t)directory, 0};
    uint32_t head[2];
    struct piece piece = {head, sizeof head};
    struct message message = {NULL, 0, 0, &piece, 1, &rights, sizeof rights, 0};

    while (*last)
        last++;
    end = last == envp ? argv[argc - 1] : last[-1];
    end += length_of(end) + 1;
    head[0] = (uint32_t)(end - argv[1]);
    head[1] = (uint32_t)(argc - 1);
    return directory >= 0 && call(SYS_sendmsg, fd, (long)&message, MSG_NOSIGNAL_, 0, 0) == sizeof head &&
           write_all(fd, argv[1], head[0]);
}

/* Have the template make the shim, and print what that answers. Returns if Python has to do it. */
static void start_by_template(long argc, char **argv, char **envp)
{
    static char answer[ANSWER_MAX];
    size_t size = 0;
    long got = 0, fd = connect_to((const char *)template.path, length_of((const char *)template.path), 0);

    if (fd < 0)
        return;
    if (send_request(fd, argc, argv, envp))
        while (size < sizeof answer && (got = call(SYS_read, fd, (long)answer + size, sizeof answer - size, 0, 0)) > 0)
            size += (size_t)got;
    call(SYS_close, fd, 0, 0, 0, 0);
    if (!size || got < 0)
        return;
    got = write_all(answer[0] == '0' ? 1 : 2, answer + 1, size - 1);
    call(SYS_exit_group, answer[0] != '0' || !got, 0, 0, 0, 0);
}

static size_t put_number(char *to, uint64_t value)
{
    size_t size = 0;

    for (; value >= 0x80; value >>= 7)
        to[size++] = (char)(value | 0x80);
    to[size++] = (char)value;
    return size;
}

/* Whether the shim that the bundle names was killed: its socket is there, and nobody listens. */
static int has_dead_shim(void)
{
    static const char scheme[] = "unix://";
    char text[sizeof scheme + sizeof((struct address *)0)->path];
    long fd = call(SYS_openat, AT_FDCWD_, (long)"address", O_CLOEXEC_, 0, 0);
    long size, connection;

    if (fd < 0)
        return 0;
    size = call(SYS_read, fd, (long)text, sizeof text, 0, 0);
    call(SYS_close, fd, 0, 0, 0, 0);
    if (size < (long)sizeof scheme)
        return 0;
    connection = connect_to(text + sizeof scheme - 1, (size_t)size - (sizeof scheme - 1), O_NONBLOCK_);
    if (connection >= 0)
        call(SYS_close, connection, 0, 0, 0, 0);
    return connection == -ECONNREFUSED_;
}

/* Answer that the container is deleted, if that is so already. Returns if Python has to look, or to do it. */
static void delete_nothing(void)
{
    struct statx_ found;
    int64_t now[2];
    char answer[64] = {0x10, (char)(137 | 0x80), 1, 0x1a, 0}; /* exit_status, exited_at: wire/containerd.py */
    size_t size = 5;
    long error;

    /* The bundle is the working directory; the link in it leads to the container's state. */
    if (call(SYS_statx, AT_FDCWD_, (long)"gosudacon", AT_SYMLINK_NOFOLLOW_, STATX_SIZE_MTIME_, (long)&found) < 0 ||
        call(SYS_statx, AT_FDCWD_, (long)"gosudacon", 0, STATX_SIZE_MTIME_, (long)&found) != -ENOENT_)
        return;
    error = call(SYS_statx, AT_FDCWD_, (long)"rootfs", AT_SYMLINK_NOFOLLOW_, STATX_SIZE_MTIME_, (long)&found);
    if (error < 0 ? error != -ENOENT_
                  : !(found.attributes_mask & STATX_ATTR_MOUNT_ROOT_) || found.attributes & STATX_ATTR_MOUNT_ROOT_)
        return;
    if (has_dead_shim())
        return;
    if (call(SYS_clock_gettime, CLOCK_REALTIME_, (long)now, 0, 0, 0) < 0)
        return;
    answer[size++] = 0x08;
    size += put_number(answer + size, (uint64_t)now[0]);
    answer[size++] = 0x10;
    size += put_number(answer + size, (uint64_t)now[1]);
    answer[4] = (char)(size - 5);
    call(SYS_exit_group, !write_all(1, answer, size), 0, 0, 0, 0);
}

__attribute__((noreturn, used)) void start(long *stack)
{
    long argc = stack[0];
    char **argv = (char **)(stack + 1);
    char **envp = argv + argc + 1;
    long envc = 0, n = 0, tree, error;
    char target[SLOT_SIZE];
    const char *python = (const char *)interpreter.path;
    const char *script = (const char *)loader.path;
    const char *args[argc + 7];
    const uint64_t held = 1 << (SIGHUP_ - 1) | 1 << (SIGINT_ - 1) | 1 << (SIGTERM_ - 1);
    long known;

    if (word.path[0] && argc > 1) {
        if (is_word(argv[argc - 1], "start"))
            start_by_template(argc, argv, envp);
        if (is_word(argv[argc - 1], "delete"))
            delete_nothing();
    }

    /* Until gosudacon.base.interrupt can answer: amid its own start Python reports SIGINT as a traceback. */
    call(SYS_rt_sigprocmask, SIG_BLOCK_, (long)&held, 0, sizeof held, 0);

    known = is_known(python);
    while (envp[envc])
        envc++;
    char *environment[envc + 2];
    char room[room_for(envp) + 1];
    hide(envp, environment, room);

    if (known < 0 && call(SYS_faccessat, AT_FDCWD_, (long)python, R_OK_, 0, 0) < 0) {
        if (!link.path[0] || follow((const char *)link.path, target) < 0)
            fail("cannot start the interpreter ", python, known);
        python = target;
    }
    if (known != 1 || check(script, stamp.loader_sum) < 0) {
        known = 0;
        script = (const char *)recover.path;
        error = check(script, stamp.recover_sum);
        if (error < 0)
            fail("cannot use ", script, error);
    }

    /* The interpreter finds its library from its name: gosudacon/launcher/startup_dir.py. */
    if (known == 1 && call(SYS_faccessat, AT_FDCWD_, (long)name.path, R_OK_, 0, 0) == 0)
        args[n++] = (const char *)name.path;
    else
        args[n++] = python;
    args[n++] = "-ISB"; /* isolated from environment and user, no site, no bytecode written */
    args[n++] = "-Xutf8";
    args[n++] = "-Xgosudacon=tree";
    args[n++] = script;
    if (word.path[0])
        args[n++] = (const char *)word.path;
    for (long i = 1; i < argc; i++)
        args[n++] = argv[i];
    args[n] = NULL;

    tree = sealed_clone(python);
    if (tree >= 0)
        call(SYS_execveat, tree, (long)"", (long)args, (long)environment, AT_EMPTY_PATH_);
    args[3] = "-Xgosudacon=none";
    error = call(SYS_execve, (long)python, (long)args, (long)environment, 0, 0);
    fail("cannot start the interpreter ", python, error);
}
