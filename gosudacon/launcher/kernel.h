/*
 * What the launcher asks of the kernel: numbers, structures, and for each architecture the entry of the
 * program and of a system call. The C library's names end in an underscore here, since its headers may
 * define them as macros.
 */
#include <stdint.h>

enum {
    AT_FDCWD_ = -100,
    AT_EMPTY_PATH_ = 0x1000,
    AT_SYMLINK_NOFOLLOW_ = 0x100,
    AF_UNIX_ = 1,
    SOCK_STREAM_ = 1,
    SOL_SOCKET_ = 1,
    SCM_RIGHTS_ = 1,
    MSG_NOSIGNAL_ = 0x4000,
    CLOCK_REALTIME_ = 0,
    STATX_ATTR_MOUNT_ROOT_ = 0x2000,
    R_OK_ = 4,
    O_CLOEXEC_ = 02000000,
    O_NONBLOCK_ = 04000,
    O_PATH_ = 010000000,
    STATX_SIZE_MTIME_ = 0x240,
    OPEN_TREE_CLONE_ = 1,
    OPEN_TREE_CLOEXEC_ = 02000000,
    MOUNT_ATTR_RDONLY_ = 0x1,
    MOUNT_ATTR_NOSUID_ = 0x2,
    MOUNT_ATTR_NODEV_ = 0x4,
    ENOENT_ = 2,
    ECONNREFUSED_ = 111,
    ENOEXEC_ = 8,
    EACCES_ = 13,
    EBADMSG_ = 74,
    ENOTDIR_ = 20,
    SIG_BLOCK_ = 0,
    SIG_SETMASK_ = 2,
    SIGHUP_ = 1,
    SIGINT_ = 2,
    SIGTERM_ = 15,
    PROT_READ_ = 1,
    PROT_WRITE_ = 2,
    MAP_PRIVATE_ = 0x02,
    MAP_FIXED_ = 0x10,
    MAP_ANONYMOUS_ = 0x20,
    MADV_DONTNEED_ = 4,
    POLLIN_ = 1,
    SEEK_DATA_ = 3,
    SEEK_HOLE_ = 4,
    SYS_open_tree = 428,
    SYS_mount_setattr = 442,
};

struct pollfd_ {
    int fd;
    short events, revents;
};

struct timespec_ {
    int64_t seconds, nanoseconds;
};

struct mount_attr_ {
    uint64_t set, clear, propagation, userns_fd;
};

struct statx_time {
    int64_t seconds;
    uint32_t nanoseconds, pad;
};

struct statx_ {
    uint32_t mask, block_size;
    uint64_t attributes;
    uint32_t links, uid, gid;
    uint16_t mode, pad;
    uint64_t inode, size, blocks, attributes_mask;
    struct statx_time access, birth, change, modification;
    uint64_t rest[16];
};

/* The kernel enters here with argc, argv and envp on the stack; start() gets their address. */
#if defined(__x86_64__)
enum {
    SYS_read = 0,
    SYS_write = 1,
    SYS_close = 3,
    SYS_lseek = 8,
    SYS_pread64 = 17,
    SYS_ppoll = 271,
    SYS_mmap = 9,
    SYS_munmap = 11,
    SYS_madvise = 28,
    SYS_rt_sigprocmask = 14,
    SYS_execve = 59,
    SYS_exit_group = 231,
    SYS_openat = 257,
    SYS_readlinkat = 267,
    SYS_faccessat = 269,
    SYS_execveat = 322,
    SYS_statx = 332,
    SYS_socket = 41,
    SYS_connect = 42,
    SYS_sendmsg = 46,
    SYS_clock_gettime = 228,
};

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call start\n");

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum {
    SYS_faccessat = 48,
    SYS_openat = 56,
    SYS_close = 57,
    SYS_lseek = 62,
    SYS_pread64 = 67,
    SYS_ppoll = 73,
    SYS_read = 63,
    SYS_write = 64,
    SYS_readlinkat = 78,
    SYS_exit_group = 94,
    SYS_rt_sigprocmask = 135,
    SYS_munmap = 215,
    SYS_execve = 221,
    SYS_mmap = 222,
    SYS_madvise = 233,
    SYS_execveat = 281,
    SYS_statx = 291,
    SYS_socket = 198,
    SYS_connect = 203,
    SYS_sendmsg = 211,
    SYS_clock_gettime = 113,
};

__asm__(".globl _start\n"
        "_start:\n"
        "    mov x29, xzr\n"
        "    mov x30, xzr\n"
        "    mov x0, sp\n"
        "    bl start\n");

static inline long call6(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc 0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory");
    return x0;
}
#else
#error "no system call entry for this architecture; gosudacon works without the launcher"
#endif

static long call(long number, long a, long b, long c, long d, long e)
{
    return call6(number, a, b, c, d, e, 0);
}
