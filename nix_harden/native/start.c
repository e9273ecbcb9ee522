/* The start of a program that lies in parts beside this file (nix-harden split): it maps them where the program wants to lie, starts
 * the program's own loader as the kernel would have, and is gone.
 *
 * It is the program that the kernel starts, static and of no library, and no interpreter (PT_INTERP): so /proc/self/exe is the file that
 * people call, the directory can be moved and copied as it is, and nothing else has to be there. Parts are called after this file:
 * its path, which the kernel knows, and their names.
 *
 * Behind it lie the table that start.py made (the last PT_LOAD, described there), and the bytes of what the parts say as text, which are
 * mapped from here. A text that is another than it was when they were made is refused, but for that of NEEDED: where its names are
 * others, the tags, the versions that name them and the program headers are made anew behind the program, and the loader sees these.
 * It is long, as it is one program, compiled by itself.
 */
#include "bare.h"

#define MAGIC "nixpart1"
#define HIDDEN __attribute__((visibility("hidden"), used))

enum step_kind { SPACE, MAPPED, COPIED, PROTECTED };
struct step { u64 address, size, offset; u32 kind, protection; };
struct file { u64 size; u32 name, steps; };         /* size: ANY is not looked at */
struct text { u64 size, digest; u32 name, ranges; }; /* what of it the digest is of; the first is that of NEEDED */
struct range { u32 start, size; };
struct table {
    char magic[8];
    u64 low, high, align;                  /* the program's memory, in whole granules, and what its base is a multiple of */
    u64 headers, entry;                    /* addresses in it */
    u64 dynamic, tags;                     /* the dynamic section, and how many tags it has; 0 where there is none */
    u64 needs, needs_size;                 /* the versions that it needs */
    u64 spare;                             /* room for `way_out` in its code, 0 where there is none */
    u32 granule, fixed, segments;
    u32 interpreter;                       /* 0 where there is none */
    u32 files, steps, texts, ranges;       /* where these begin in the table */
    u32 file_count, text_count;
};
#define ANY (~0ull)
#define NOWHERE 0xffffffffu /* the name of no file: memory of zeros */

enum { PATH = 4096, LONGEST = 512, FAILED = 127 };
enum { NONE, READABLE = 1, WRITABLE = 2, RUNNABLE = 4 };
enum { PRIVATE = 2, FIXED = 0x10, ANONYMOUS = 0x20, NORESERVE = 0x4000, FIXED_NOREPLACE = 0x100000 };
enum { HERE = -100, CLOSED_ON_EXEC = 02000000, END = 2 };

static char path[PATH + LONGEST]; /* of this file, and behind it the name of a part */
static u64 own_length;

/* The instructions that unmap this file and go on, without it: `call` and `jump`, put where the program's code has room. */
#if defined __x86_64__
static const u8 way_out[] = { 0x0f, 0x05, 0xff, 0xe3 }; /* syscall; jmp *%rbx */
#else
static const u32 way_out[] = { 0xd4000001, 0xd61f0220 }; /* svc 0; br x17 */
#endif

/* What a compiler calls where it copies or fills more than a few bytes. */
HIDDEN void *memcpy(void *to, const void *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((u8 *)to)[i] = ((const u8 *)from)[i];
        __asm__ volatile("" : : : "memory"); /* or this loop is such a call */
    }
    return to;
}

HIDDEN void *memset(void *to, int value, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        ((u8 *)to)[i] = value;
        __asm__ volatile("" : : : "memory");
    }
    return to;
}

static const void *in(const struct table *table, u32 offset)
{
    return (const u8 *)table + offset;
}

static void put(const char *words)
{
    call(WRITE, 2, (long)words, length((const u8 *)words), 0);
}

static _Noreturn void die(const char *where, const char *problem, const char *advice)
{
    put(where);
    put(": ");
    put(problem);
    put("; ");
    put(advice);
    put("\n");
    for (;;)
        call(EXIT_GROUP, FAILED, 0, 0, 0);
}

/* The path of a part. */
static const char *part(const char *name)
{
    __builtin_memcpy(path + own_length, name, length((const u8 *)name) + 1);
    return path;
}

static int failed(long answer)
{
    return answer < 0 && answer > -4096;
}

static u64 map(u64 at, u64 size, int protection, int flags, long file, u64 offset)
{
    long found = call6(MAP, at, size, protection, PRIVATE | flags, file, offset);
    if (failed(found))
        die(path, "memory cannot be mapped as the program wants it", "raise the limits on memory (ulimit -v)");
    return found;
}

static void protect(u64 at, u64 size, int protection)
{
    if (failed(call(PROTECT, at, size, protection, 0)))
        die(path, "memory cannot be protected as the program wants it", "start the program that `nix-harden join` makes");
}

static long open(const char *name)
{
    long file = call(OPEN, HERE, (long)name, CLOSED_ON_EXEC, 0);
    if (failed(file))
        die(name, "it cannot be opened", "put it back, or split the program again");
    return file;
}

static void copy(long file, u64 to, u64 size, u64 offset, const char *name)
{
    while (size) {
        long more = call(READ, file, to, size, offset);
        if (more <= 0)
            die(name, "it cannot be read, or is shorter than it says", "split the program again");
        to += more, size -= more, offset += more;
    }
}

/* What was written into memory is to run. */
static void settle_code(u64 at, u64 size)
{
#if defined __aarch64__
    u64 sizes;
    __asm__("mrs %0, ctr_el0" : "=r"(sizes));
    u64 data = 4u << (sizes >> 16 & 15), code = 4u << (sizes & 15);
    for (u64 each = at & -data; each < at + size; each += data)
        __asm__ volatile("dc cvau, %0" : : "r"(each) : "memory");
    __asm__ volatile("dsb ish" : : : "memory");
    for (u64 each = at & -code; each < at + size; each += code)
        __asm__ volatile("ic ivau, %0" : : "r"(each) : "memory");
    __asm__ volatile("dsb ish; isb" : : : "memory");
#else
    (void)at, (void)size;
#endif
}

/* Whether a text is what it was when the program was taken apart; hashes of store paths, which Nix overwrites here and there alike, are
 * left out. */
static int is_as_it_was(const struct text *text, const struct range *ranges, const u8 *data, u64 size)
{
    u64 hash = 0;
    if (size != text->size)
        return 0;
    for (u32 i = 0; i < text->ranges; i++)
        hash = digest(hash, data + ranges[i].start, ranges[i].size);
    return hash == text->digest;
}

/* A text in memory, until `forget`. */
struct held { const u8 *data; u64 size; };

static struct held hold(const char *name)
{
    long file = open(name), size = call(SEEK, file, 0, END, 0);
    struct held held = { NULL, size > 0 ? size : 0 };
    if (held.size)
        held.data = (const u8 *)map(0, held.size, READABLE, 0, file, 0);
    call(CLOSE, file, 0, 0, 0);
    return held;
}

static void forget(struct held held)
{
    if (held.size)
        call(UNMAP, (long)held.data, held.size, 0, 0);
}

/* The texts are as they were; what NEEDED says if it is not, and else nothing. */
static struct held check(const struct table *table)
{
    const struct text *texts = in(table, table->texts);
    const struct range *ranges = in(table, table->ranges);
    struct held needed = { NULL, 0 };
    for (u32 i = 0; i < table->text_count; ranges += texts[i].ranges, i++) {
        const char *name = part(in(table, texts[i].name));
        struct held held = hold(name);
        if (is_as_it_was(&texts[i], ranges, held.data, held.size))
            forget(held);
        else if (i == 0)
            needed = held.size ? held : (struct held){ (const u8 *)"\n", 1 };
        else
            die(name, "it says something else than when the program was taken apart", "use `nix-harden join` to make a program of it");
    }
    return needed;
}

/* The memory of a program at its place: its base. `room` more bytes lie behind it. */
static u64 reserve(const struct table *table, u64 page, u64 room)
{
    u64 size = table->high - table->low, spare = table->align > page ? table->align - page : 0;
    if (table->fixed) {
        long found = call6(MAP, table->low, size, NONE, PRIVATE | ANONYMOUS | NORESERVE | FIXED_NOREPLACE, -1, 0);
        if (found != (long)table->low)
            die(path, "something lies already where the program wants to", "start the program that `nix-harden join` makes");
        return 0;
    }
    u64 start = map(0, size + spare + room, NONE, ANONYMOUS | NORESERVE, -1, 0);
    u64 base = ((start + spare - table->low % table->align) & -table->align) + table->low % table->align;
    base = base < start ? base + table->align : base;
    if (base > start)
        call(UNMAP, start, base - start, 0, 0);
    if (spare > base - start)
        call(UNMAP, base + size + room, spare - (base - start), 0, 0);
    return base - table->low;
}

static void take(const struct table *table, u64 base)
{
    const struct file *files = in(table, table->files);
    const struct step *step = in(table, table->steps);
    for (u32 i = 0; i < table->file_count; i++) {
        long file = -1;
        const char *name = path;
        if (files[i].name != NOWHERE) {
            name = part(in(table, files[i].name));
            file = open(name);
            if (files[i].size != ANY && call(SEEK, file, 0, END, 0) != (long)files[i].size)
                die(name, "it is longer or shorter than when the program was taken apart", "put it back, or split the program again");
        }
        for (u32 j = 0; j < files[i].steps; j++, step++) {
            u64 at = base + step->address;
            if (step->kind == SPACE)
                map(at, step->size, step->protection, FIXED | ANONYMOUS, -1, 0);
            else if (step->kind == MAPPED)
                map(at, step->size, step->protection, FIXED, file, step->offset);
            else if (step->kind == COPIED)
                copy(file, at, step->size, step->offset, name);
            else {
                if (table->spare >= step->address && table->spare < step->address + step->size)
                    __builtin_memcpy((void *)(base + table->spare), way_out, sizeof way_out);
                if (step->protection & RUNNABLE)
                    settle_code(at, step->size);
                protect(at, step->size, step->protection);
            }
        }
        if (file >= 0)
            call(CLOSE, file, 0, 0, 0);
    }
    part("");
}

static const char *last_name(const char *name)
{
    const char *found = name;
    for (; *name; name++)
        if (*name == '/')
            found = name + 1;
    return found;
}

static int digit(u8 letter)
{
    return letter >= '0' && letter <= '9' ? letter - '0' : letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static int is_blank(u8 letter)
{
    return letter == ' ' || (letter >= '\t' && letter <= '\r');
}

/* The names that a text says, one a line, one behind the other; how many there are. */
static u64 read_names(struct held text, char *to)
{
    u64 count = 0, at = 0;
    while (at < text.size) {
        const char *start = to;
        while (at < text.size && text.data[at] != '\n' && is_blank(text.data[at]))
            at++;
        int is_remark = at < text.size && text.data[at] == '#';
        while (!is_remark && at < text.size && !is_blank(text.data[at]) && text.data[at] != '@') {
            const u8 *each = text.data + at;
            if (*each == '\\' && at + 3 < text.size && each[1] == 'x' && digit(each[2]) >= 0 && digit(each[3]) >= 0) {
                *to++ = digit(each[2]) << 4 | digit(each[3]);
                at += 4;
            } else
                *to++ = *each, at++;
        }
        while (at < text.size && text.data[at] != '\n')
            at++;
        at++;
        if (to > start)
            *to++ = 0, count++;
    }
    return count;
}

/* Of names one behind the other, that with a number. */
static const char *name_at(const char *names, u64 number)
{
    while (number--)
        names += length((const u8 *)names) + 1;
    return names;
}

static int is_among(const char *name, const char *names, u64 count)
{
    for (; count--; names += length((const u8 *)names) + 1)
        if (equal(name, names))
            return 1;
    return 0;
}

/* What became of a name that is not there any more: what stands in its place in a list as long, or else has its base name. */
static const char *renamed(const char *gone, const ElfW(Dyn) *tags, u64 old, const char *strings, const char *names, u64 count)
{
    const char *found = NULL;
    u64 number = 0;
    if (old == count) {
        for (const ElfW(Dyn) *each = tags; each->d_tag != DT_NULL; each++)
            if (each->d_tag == DT_NEEDED && equal(strings + each->d_un.d_val, gone))
                found = name_at(names, number++);
            else if (each->d_tag == DT_NEEDED)
                number++;
    } else
        for (number = 0; number < count; number++)
            if (equal(last_name(name_at(names, number)), last_name(gone)))
                found = name_at(names, number);
    for (const ElfW(Dyn) *each = tags; found && each->d_tag != DT_NULL; each++)
        if (each->d_tag == DT_NEEDED && equal(strings + each->d_un.d_val, found))
            return NULL; /* it was there before, for something else */
    return found;
}

/* As many tags as there may be with the names that a text says, one a line, and with DT_NULL. */
static u64 most_tags(const struct table *table, struct held needed)
{
    u64 lines = 1;
    for (u64 i = 0; i < needed.size; i++)
        lines += needed.data[i] == '\n';
    return table->tags + lines + 1;
}

/* How much memory behind the program other names take. */
static u64 room_for(const struct table *table, struct held needed)
{
    u64 size = table->segments * sizeof(ElfW(Phdr)) + most_tags(table, needed) * sizeof(ElfW(Dyn)) + table->needs_size + needed.size + 8;
    return (size + table->granule - 1) & -(u64)table->granule;
}

/* Have the program need other names: program headers, tags and versions as they are, and what names say in them. Where the headers are. */
static u64 rename(const struct table *table, u64 base, struct held needed, u64 room, u64 size)
{
    const ElfW(Dyn) *tags = (const void *)(base + table->dynamic);
    const char *strings = NULL;
    u64 old = 0;
    for (const ElfW(Dyn) *each = tags; each->d_tag != DT_NULL; each++) {
        if (each->d_tag == DT_STRTAB)
            strings = (const char *)(base + each->d_un.d_ptr);
        old += each->d_tag == DT_NEEDED;
    }
    /* versions reach their names by 32 bits */
    if (!strings || room < (u64)strings || room + size - (u64)strings > 0xffffffff)
        die(part(".needed"), "there is no memory behind the program for other names", "start the program that `nix-harden join` makes");
    ElfW(Phdr) *headers = (void *)room;
    ElfW(Dyn) *made = (void *)(headers + table->segments), *to = made;
    u8 *needs = (u8 *)(made + most_tags(table, needed));
    char *names = (char *)needs + table->needs_size;
    u64 count = read_names(needed, names);

    int is_done = 0;
    for (const ElfW(Dyn) *each = tags;; each++) {
        if (!is_done && (each->d_tag == DT_NEEDED || (!old && each == tags))) {
            const char *name = names;
            for (u64 i = 0; i < count; i++, name += length((const u8 *)name) + 1)
                *to++ = (ElfW(Dyn)){ DT_NEEDED, { (u64)name - (u64)strings } };
            is_done = 1;
        }
        if (each->d_tag == DT_NULL)
            break;
        if (each->d_tag == DT_VERNEED && table->needs)
            *to++ = (ElfW(Dyn)){ DT_VERNEED, { (u64)needs - base } };
        else if (each->d_tag != DT_NEEDED)
            *to++ = *each;
    }
    *to++ = (ElfW(Dyn)){ DT_NULL, { 0 } };

    if (table->needs) {
        __builtin_memcpy(needs, (const void *)(base + table->needs), table->needs_size);
        for (ElfW(Verneed) *each = (void *)needs;; each = (void *)((u8 *)each + each->vn_next)) {
            const char *name = strings + each->vn_file;
            if (!is_among(name, names, count)) {
                const char *other = renamed(name, tags, old, strings, names, count);
                if (!other)
                    die(part(".needed"), "a name is gone of which the program needs versions", "leave it, or write another in its place");
                each->vn_file = (u64)other - (u64)strings;
            }
            if (!each->vn_next)
                break;
        }
    }

    __builtin_memcpy(headers, (const void *)(base + table->headers), table->segments * sizeof *headers);
    for (u32 i = 0; i < table->segments; i++) {
        if (headers[i].p_type == PT_PHDR)
            headers[i].p_vaddr = headers[i].p_paddr = room - base;
        if (headers[i].p_type == PT_DYNAMIC) {
            headers[i].p_vaddr = headers[i].p_paddr = (u64)made - base;
            headers[i].p_filesz = headers[i].p_memsz = (u64)to - (u64)made;
        }
    }
    return room;
}

/* Map a loader as the kernel does (fs/binfmt_elf.c, load_elf_interp): its base, and where it begins. */
static u64 map_loader(const char *name, u64 page, u64 *entry)
{
    enum { MOST = 64 };
    ElfW(Ehdr) header;
    ElfW(Phdr) segments[MOST];
    long file = open(name);
    copy(file, (u64)&header, sizeof header, 0, name);
    if (header.e_type != ET_DYN || header.e_machine != __ehdr_start->e_machine || header.e_phnum > MOST || !header.e_phnum)
        die(name, "it is no loader for this program", "write the path of one into the interpreter of the program, and split it again");
    copy(file, (u64)segments, header.e_phnum * sizeof *segments, header.e_phoff, name);
    u64 low = ~0ull, high = 0, align = page;
    for (u32 i = 0; i < header.e_phnum; i++)
        if (segments[i].p_type == PT_LOAD) {
            u64 start = segments[i].p_vaddr & -page, end = (segments[i].p_vaddr + segments[i].p_memsz + page - 1) & -page;
            low = start < low ? start : low;
            high = end > high ? end : high;
            align = segments[i].p_align > align ? segments[i].p_align : align;
        }
    struct table its = { .low = low, .high = high, .align = align };
    u64 base = reserve(&its, page, 0);
    for (u32 i = 0; i < header.e_phnum; i++) {
        const ElfW(Phdr) *each = &segments[i];
        if (each->p_type != PT_LOAD)
            continue;
        int protection = (each->p_flags & PF_R ? READABLE : 0) | (each->p_flags & PF_W ? WRITABLE : 0) | (each->p_flags & PF_X ? RUNNABLE : 0);
        u64 start = each->p_vaddr & -page, in_file = each->p_vaddr + each->p_filesz, end = each->p_vaddr + each->p_memsz;
        u64 of_file = (in_file + page - 1) & -page, of_memory = (end + page - 1) & -page;
        if (each->p_filesz)
            map(base + start, of_file - start, protection, FIXED, file, each->p_offset - (each->p_vaddr - start));
        if (end > in_file && protection & WRITABLE && each->p_filesz)
            for (u8 *zero = (u8 *)(base + in_file); zero < (u8 *)(base + of_file); zero++)
                *(volatile u8 *)zero = 0;
        if (of_memory > of_file)
            map(base + of_file, of_memory - of_file, protection, FIXED | ANONYMOUS, -1, 0);
    }
    call(CLOSE, file, 0, 0, 0);
    *entry = base + header.e_entry;
    return base;
}

/* Unmap this file, and begin at `entry` with the stack as the kernel laid it out. */
static _Noreturn void leave(u64 *stack, u64 entry, u64 spare, u64 own, u64 size)
{
#if defined __x86_64__
    if (spare)
        __asm__ volatile("mov %0, %%rsp\n xor %%ebp, %%ebp\n xor %%edx, %%edx\n jmp *%%rcx"
            : : "r"(stack), "b"(entry), "c"(spare), "a"((long)UNMAP), "D"(own), "S"(size) : "memory");
    else
        __asm__ volatile("mov %0, %%rsp\n xor %%ebp, %%ebp\n xor %%edx, %%edx\n jmp *%%rbx" : : "r"(stack), "b"(entry) : "memory");
#else
    register u64 x0 __asm__("x0") = spare ? own : 0, x1 __asm__("x1") = size, x8 __asm__("x8") = UNMAP;
    register u64 x16 __asm__("x16") = spare ? spare : entry, x17 __asm__("x17") = entry;
    __asm__ volatile("mov sp, %0\n mov x29, 0\n mov x30, 0\n br x16"
        : : "r"(stack), "r"(x0), "r"(x1), "r"(x8), "r"(x16), "r"(x17) : "memory");
#endif
    __builtin_unreachable();
}

HIDDEN _Noreturn void begin(u64 *stack)
{
    u64 *aux = stack + 1 + *stack + 1;
    while (*aux++)
        ;
    u64 page = 4096, *base_word = NULL, *headers_word = NULL, *segments_word = NULL, *entry_word = NULL;
    const char *called = "";
    int is_secure = 0;
    for (; aux[0] != AT_NULL; aux += 2)
        switch (aux[0]) {
        case AT_PAGESZ: page = aux[1]; break;
        case AT_SECURE: is_secure = !!aux[1]; break;
        case AT_EXECFN: called = (const char *)aux[1]; break;
        case AT_BASE: base_word = aux + 1; break;
        case AT_PHDR: headers_word = aux + 1; break;
        case AT_PHNUM: segments_word = aux + 1; break;
        case AT_ENTRY: entry_word = aux + 1; break;
        }
    if (is_secure)
        die(called, "it is set-user-ID or has capabilities, and its parts may be anybody's", "start the program that `nix-harden join` makes");
    long size = call(READLINK, HERE, (long)"/proc/self/exe", (long)path, PATH);
    if (failed(size)) { /* no /proc */
        size = length((const u8 *)called);
        if (size >= PATH)
            die(called, "its path is too long", "mount /proc");
        __builtin_memcpy(path, called, size);
    }
    own_length = size;
    part("");

    const ElfW(Phdr) *last = table_segment();
    const struct table *table = (const void *)((const char *)__ehdr_start + last->p_vaddr);
    if (load(table->magic) != load(MAGIC) || !base_word || !headers_word || !segments_word || !entry_word)
        die(path, "it is no program that was taken apart", "split the program again");
    if (page > table->granule)
        die(path, "this kernel's pages are larger than those for which the program was linked", "start it where they are smaller");

    struct held needed = check(table);
    if (needed.size && !table->interpreter)
        die(part(".needed"), "the program is static, and loads no library", "leave it empty");
    u64 room_size = needed.size ? room_for(table, needed) : 0;
    u64 base = reserve(table, page, room_size);
    take(table, base);
    u64 headers = base + table->headers;
    if (needed.size) {
        u64 room = base + table->high;
        if (table->fixed)
            room = map(room, room_size, READABLE | WRITABLE, ANONYMOUS, -1, 0);
        else
            protect(room, room_size, READABLE | WRITABLE);
        headers = rename(table, base, needed, room, room_size);
        part("");
    }
    *headers_word = headers;
    *segments_word = table->segments;
    *entry_word = base + table->entry;
    u64 entry = *entry_word;
    *base_word = table->interpreter ? map_loader(in(table, table->interpreter), page, &entry) : 0;
    u64 own = (u64)__ehdr_start, end = own + last->p_vaddr + ((last->p_memsz + page - 1) & -page);
    leave(stack, entry, table->spare ? base + table->spare : 0, own, end - own);
}

#if defined __x86_64__
__asm__(".globl start\n.hidden start\n.type start, @function\nstart:\n xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call begin\n hlt\n");
#else
__asm__(".globl start\n.hidden start\n.type start, %function\nstart:\n mov x29, 0\n mov x30, 0\n mov x0, sp\n bl begin\n brk 1\n");
#endif
