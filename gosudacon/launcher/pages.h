/*
 * For gosudacon.linux.sharing: memory that a fork and its parent have in common, although the fork has written to it.
 *
 * An interpreter writes to what it looks at, for it counts references, and mostly puts back what was there. To the
 * kernel such a page is the fork's own for ever. These two functions give it back: the parent's memory becomes a
 * private mapping of a file, the image, and a fork drops each page that is as in the image.
 *
 * They are not called by the launcher. Python maps the launcher's text into its own process and calls them there,
 * because nothing of an interpreter may run between the look at a page and its end. So they use no data but constants,
 * which are in the text's segment (build.py), and no function that is not inlined; signals wait meanwhile, and the
 * stack is not among the memory that they change.
 */
enum {
    PAGE = 4096,
    WORDS = PAGE / sizeof(uint64_t),
    AT_ONCE = 128, /* pages that are looked at with one call: their entries are on the stack, which is memory, too */
};

/* Memory, and where it is in the image. */
struct memory_piece {
    char *start;
    const char *image;
    long pages;
};

#define INLINE static inline __attribute__((always_inline))
/* In a section of their own, for which the linker keeps them although nothing calls them. */
#define CALLED_BY_PYTHON __attribute__((used, noinline))

INLINE uint64_t block_signals(void)
{
    uint64_t all = ~0ull, before = 0;

    call6(SYS_rt_sigprocmask, SIG_SETMASK_, (long)&all, (long)&before, sizeof all, 0, 0);
    return before;
}

INLINE void restore_signals(uint64_t before)
{
    call6(SYS_rt_sigprocmask, SIG_SETMASK_, (long)&before, 0, sizeof before, 0, 0);
}

INLINE int are_equal(const volatile uint64_t *one, const volatile uint64_t *other)
{
    for (long word = 0; word < (long)WORDS; word++)
        if (one[word] != other[word])
            return 0;
    return 1;
}

INLINE int is_empty(const volatile uint64_t *page)
{
    for (long word = 0; word < (long)WORDS; word++)
        if (page[word])
            return 0;
    return 1;
}

INLINE void copy(volatile uint64_t *to, const volatile uint64_t *from)
{
    for (long word = 0; word < (long)WORDS; word++)
        to[word] = from[word];
}

/*
 * Make the memory at start, of so many pages, a private mapping of the image, from offset on, with the contents that
 * the memory has now. What differs from the image stays this process's own. Returns 0 or an error below zero, with
 * nothing changed; does not return if the memory is lost.
 */
CALLED_BY_PYTHON static long adopt_image(char *start, long pages, long image, long offset)
{
    long length = pages * PAGE, data = offset, hole = offset, fresh;
    uint64_t mask = block_signals();
    char *saved = (char *)call6(SYS_mmap, 0, length, PROT_READ_ | PROT_WRITE_, MAP_PRIVATE_ | MAP_ANONYMOUS_, -1, 0);

    if ((unsigned long)saved > -(unsigned long)PAGE) {
        restore_signals(mask);
        return (long)saved;
    }
    for (long at = 0; at < length; at += PAGE)
        if (!is_empty((uint64_t *)(start + at)))
            copy((uint64_t *)(saved + at), (uint64_t *)(start + at));
    fresh = call6(SYS_mmap, (long)start, length, PROT_READ_ | PROT_WRITE_, MAP_PRIVATE_ | MAP_FIXED_, image, offset);
    if (fresh != (long)start)
        call6(SYS_exit_group, 1, 0, 0, 0, 0, 0);
    for (long at = 0; at < length; at += PAGE) {
        if (offset + at >= hole) { /* where the image has pages next: to look at others would make them */
            data = call6(SYS_lseek, image, offset + at, SEEK_DATA_, 0, 0, 0);
            hole = data < 0 ? offset + length : call6(SYS_lseek, image, data, SEEK_HOLE_, 0, 0, 0);
            if (data < 0)
                data = hole;
        }
        if (offset + at < data ? !is_empty((uint64_t *)(saved + at))
                               : !are_equal((uint64_t *)(start + at), (uint64_t *)(saved + at)))
            copy((uint64_t *)(start + at), (uint64_t *)(saved + at));
    }
    call6(SYS_munmap, (long)saved, length, 0, 0, 0, 0);
    restore_signals(mask);
    return 0;
}

/*
 * Drop pages that are as in the image: then they are the image's. Should the memory be a mapping of something else by
 * now, since the heap has shrunk and grown again for example, their contents are gone, and are put back. Returns how
 * many pages the image has.
 */
INLINE long drop(char *start, const char *image, long pages)
{
    long dropped = 0;

    if (pages == 0 || call6(SYS_madvise, (long)start, pages * PAGE, MADV_DONTNEED_, 0, 0, 0) != 0)
        return 0;
    for (long at = 0; at < pages * PAGE; at += PAGE) {
        if (are_equal((uint64_t *)(start + at), (uint64_t *)(image + at)))
            dropped++;
        else
            copy((uint64_t *)(start + at), (uint64_t *)(image + at));
    }
    return dropped;
}

/*
 * Drop those of the pages at start that are as in the image. entries: what /proc/PID/pagemap says of them; those that
 * are not there, or a file's, are left alone. Returns how many the image has.
 */
INLINE long drop_equal(char *start, const char *image, long pages, const uint64_t *entries)
{
    const uint64_t present = 1ull << 63, of_a_file = 1ull << 61;
    long dropped = 0, run = 0;

    for (long page = 0; page < pages; page++) {
        if ((entries[page] & (present | of_a_file)) == present &&
            are_equal((uint64_t *)(start + page * PAGE), (uint64_t *)(image + page * PAGE))) {
            run++;
        } else {
            dropped += drop(start + (page - run) * PAGE, image + (page - run) * PAGE, run);
            run = 0;
        }
    }
    return dropped + drop(start + (pages - run) * PAGE, image + (pages - run) * PAGE, run);
}

/*
 * Share the pieces again where they are as in the image, and wait until fd can be read, or for so many milliseconds if
 * that is not below zero. To wait here, and not in the interpreter, leaves those pages shared that it would write to
 * on its way there. pagemap: /proc/self/pagemap, which this closes. Returns how many pages the image has.
 */
CALLED_BY_PYTHON static long share_and_wait(const struct memory_piece *pieces, long count, long pagemap, long fd,
                                            long milliseconds)
{
    struct timespec_ patience = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    struct pollfd_ watched = {(int)fd, POLLIN_, 0};
    uint64_t entries[AT_ONCE], mask = block_signals();
    long dropped = 0;

    for (long number = 0; number < count; number++) {
        char *start = pieces[number].start;
        const char *image = pieces[number].image;
        long left = pieces[number].pages, length = left * PAGE, pages;

        for (char *at = start; left > 0; at += pages * PAGE, left -= pages) {
            pages = left < AT_ONCE ? left : AT_ONCE;
            if (call6(SYS_pread64, pagemap, (long)entries, pages * 8, (long)at / PAGE * 8, 0, 0) == pages * 8)
                dropped += drop_equal(at, image + (at - start), pages, entries);
        }
        /* What has been looked at would count as memory in use. */
        call6(SYS_madvise, (long)image, length, MADV_DONTNEED_, 0, 0, 0);
    }
    call6(SYS_close, pagemap, 0, 0, 0, 0, 0);
    restore_signals(mask);
    call6(SYS_ppoll, (long)&watched, 1, milliseconds < 0 ? 0 : (long)&patience, 0, 0, 0);
    return dropped;
}

/* Where they are: gosudacon.linux.sharing finds this by its tag. */
static const volatile struct {
    char tag[32];
    long (*adopt)(char *, long, long, long);
    long (*share)(const struct memory_piece *, long, long, long, long);
} pages __attribute__((used)) = {"gosudacon-slot:pages", adopt_image, share_and_wait};
