/* The loader module: an rtld-audit module (rtld-audit(7)) that knows what the names and symbols of one program mean.
 *
 * A program names it by DT_AUDIT, so that ld.so maps it before any library of the program. It answers searches from its table, checks
 * that what ld.so maps is what the table was made for, object by object, and when the last is there, before anything is relocated,
 * writes what the symbols mean and leaves ld.so the relocations that only it can do. Where anything differs it does nothing, and
 * ld.so does all, as without it.
 *
 * It uses no library, allocates nothing and makes no system call but faccessat(2), where it answers a search. The table is the last
 * PT_LOAD of this file, written behind it by table.py, which describes it. Of glibc it relies on this, of 2.35 and newer (elf/):
 * la_objopen is called for the program, its loader, the vDSO and then each library in the order of loading, all before the first
 * _dl_relocate_object (rtld.c), which goes by pointers in the link map to the tags of the dynamic section (get-dynamic-info.h).
 */
#include "bare.h"

#define MAGIC "nixpre01"
#define EXPORTED __attribute__((visibility("default")))
enum { RANGES = 3, HASH = 32, MOST = 4096, ABSOLUTE = 0 }; /* ABSOLUTE: a target without a base; the others count from one */
enum { WRITTEN = 1 };                           /* object.flags: its relocations are in the table */
enum { PROOF = 1, APART = 2, LATE = 4 };        /* table.flags: print memory and end; write nothing; names follow the last object */

struct range { u32 start, size; };
struct object {
    u64 identity;               /* of the headers, the dynamic section and `ranges` */
    u32 path, flags;
    struct range ranges[RANGES]; /* the file header, the program headers, and what tells two builds apart */
    u32 slots, calls, end;      /* streams of bytes: [slots, calls) and [calls, end) */
    u32 rest, rests;            /* relocations that ld.so does: Elf64_Rela */
    u32 names, named;           /* what bare names mean to this object */
    u32 hash;                   /* where HASH characters of `path` begin by which a store path is known, 0 where none do */
};
struct name { u32 string, object; };
struct table {
    char magic[8];
    u64 checksum; /* of all that follows it, up to `paths` */
    u64 of_paths; /* of these, without what is known to be overwritten */
    u32 size, flags, count, loader, stack_end;
    u32 objects, strings, paths;
};

enum { DIFFERS = 3, UNREADABLE = 4 }; /* how a process ends that was to prove something */

static const struct table *table;
static const struct object *objects;
static enum { STARTING, WROTE, DONE, OUT } state;
static u32 seen;    /* objects that are mapped, without the loader */
static int searches; /* LD_LIBRARY_PATH is set, and what it finds wins */
static struct link_map *maps[MOST];

/* A link map as glibc has it (include/link.h): behind what <link.h> tells of it, to 2.42, comes where its tags are. place_of looks. */
enum { TAGS = 64 };
struct kept {
    struct link_map open;
    struct link_map *real;
    Lmid_t space;
    void *names;
    ElfW(Dyn) *info[TAGS];
};
/* The tags by which ld.so relocates an object: where they are, where it finds them, and what it is to find instead for a while. */
enum { RELA, RELASZ, RELACOUNT, PLTRELSZ, LEFT };
static const ElfW(Sxword) left_tags[LEFT] = { DT_RELA, DT_RELASZ, DT_RELACOUNT, DT_PLTRELSZ };
static struct left {
    ElfW(Dyn) *was[LEFT], **place[LEFT], now[LEFT];
} lefts[MOST];

static int is_path(const char *name)
{
    for (; *name; name++)
        if (*name == '/')
            return 1;
    return 0;
}

static u64 identity(const struct link_map *map, const struct object *object)
{
    u64 hash = 0;
    for (u32 i = 0; i < RANGES; i++)
        hash = digest(hash, (const u8 *)map->l_addr + object->ranges[i].start, object->ranges[i].size);
    for (const ElfW(Dyn) *each = map->l_ld; each->d_tag != DT_NULL; each++)
        if (each->d_tag != DT_DEBUG) {
            /* ld.so has added the base to some */
            u64 value = each->d_un.d_val, base = map->l_addr;
            hash = mix(mix(hash, each->d_tag), base && value >= base ? value - base : value);
        }
    return hash;
}

static u64 number(const u8 **at)
{
    u64 value = 0;
    for (u32 shift = 0;; shift += 7) {
        u8 byte = *(*at)++;
        value |= (u64)(byte & 127) << shift;
        if (byte < 128)
            return value;
    }
}

static u32 word(const u8 **at)
{
    u32 value;
    __builtin_memcpy(&value, *at, sizeof value);
    *at += sizeof value;
    return value;
}

static u64 base_of(u64 target)
{
    return target == ABSOLUTE ? 0 : maps[target - 1]->l_addr;
}

/* Groups of a target and its slots; each slot as far behind the last as a number says, in words, with its value in the target. */
static void write_slots(const struct object *object, u64 base)
{
    const u8 *at = (const u8 *)table + object->slots, *end = (const u8 *)table + object->calls;
    while (at < end) {
        u64 target = base_of(number(&at)), count = number(&at);
        u64 *slot = (u64 *)base;
        while (count--) {
            slot += number(&at);
            *slot = target + word(&at);
        }
    }
}

/* Groups of a target and its functions; each with its slots, which hold what the function answers (STT_GNU_IFUNC). */
static void write_calls(const struct object *object, u64 base)
{
    const u8 *at = (const u8 *)table + object->calls, *end = (const u8 *)table + object->end;
    while (at < end) {
        u64 target = base_of(number(&at)), functions = number(&at);
        while (functions--) {
            u64 value = ((u64(*)(void))(target + word(&at)))();
            u64 count = number(&at);
            u64 *slot = (u64 *)base;
            while (count--) {
                slot += number(&at);
                *slot = value;
            }
        }
    }
}

/* Where ld.so keeps a tag of an object; NULL where the link map is not what it has been. */
static ElfW(Dyn) **place_of(const struct link_map *map, const ElfW(Dyn) *tag)
{
    struct kept *kept = (struct kept *)map;
    for (u32 i = 0; i < TAGS; i++)
        if (kept->info[i] == tag)
            return &kept->info[i];
    return NULL;
}

/* Find the tags by which ld.so relocates an object. */
static int find_tags(const struct link_map *map, struct left *left)
{
    for (ElfW(Dyn) *each = map->l_ld; each->d_tag != DT_NULL; each++)
        for (u32 i = 0; i < LEFT; i++)
            if (each->d_tag == left_tags[i]) {
                left->was[i] = each;
                left->now[i] = *each;
                left->place[i] = place_of(map, each);
                if (!left->place[i])
                    return 0;
            }
    return 1;
}

/* Have ld.so do of an object's relocations what is relative and what is `rest`, and nothing else. */
static void leave(const struct object *object, const struct link_map *map, struct left *left)
{
    if (left->place[RELA] && left->place[RELASZ]) {
        u64 count = left->now[RELACOUNT].d_un.d_val;
        if (object->rests) {
            /* they lie elsewhere than the relative ones, which are done here */
            const ElfW(Rela) *each = (const void *)left->now[RELA].d_un.d_ptr;
            for (u64 i = 0; i < count; i++)
                *(u64 *)(map->l_addr + each[i].r_offset) = map->l_addr + each[i].r_addend;
            left->now[RELACOUNT].d_un.d_val = 0;
            left->now[RELA].d_un.d_ptr = (u64)table + object->rest;
            count = object->rests;
        }
        left->now[RELASZ].d_un.d_val = count * sizeof(ElfW(Rela));
    }
    left->now[PLTRELSZ].d_un.d_val = 0;
    for (u32 i = 0; i < LEFT; i++)
        if (left->place[i])
            *left->place[i] = &left->now[i];
}

/* Once ld.so has relocated all, it finds every tag where it was. */
static void restore(void)
{
    for (u32 i = 0; i < table->count; i++)
        for (u32 j = 0; j < LEFT; j++)
            if (lefts[i].place[j])
                *lefts[i].place[j] = lefts[i].was[j];
}

/* From here on ld.so does all; where that was to be proved, nothing is. */
static void stay_out(void)
{
    state = OUT;
    if (table->flags & PROOF)
        call(EXIT_GROUP, DIFFERS, 0, 0, 0);
}

static void apply(void)
{
    state = WROTE;
    if (table->flags & APART)
        return;
    for (u32 i = 0; i < table->count; i++)
        if (objects[i].flags & WRITTEN) {
            write_slots(&objects[i], maps[i]->l_addr);
            leave(&objects[i], maps[i], &lefts[i]);
        }
    /* what is called may use anything that was written */
    for (u32 i = 0; i < table->count; i++)
        if (objects[i].flags & WRITTEN)
            write_calls(&objects[i], maps[i]->l_addr);
}

/* The environment, as the kernel laid it out: a count, the arguments, a null, the variables, a null. */
static const char *const *environment(void)
{
    const u64 *stack = *(const u64 *const *)(maps[table->loader]->l_addr + table->stack_end);
    return (const char *const *)(stack + 1 + *stack + 1);
}

/* Whether a variable is set, and to something (ld.so(8)). */
static int is_set(const char *name)
{
    for (const char *const *each = environment(); *each; each++) {
        u32 i = 0;
        while (name[i] && (*each)[i] == name[i])
            i++;
        if (!name[i] && (*each)[i] == '=' && (*each)[i + 1])
            return 1;
    }
    return 0;
}

/* Whether the table is of this version, and what was written. Nix overwrites the hashes of store paths, in this file as in all others,
 * where it gives another name to an output or puts one in the place of another; which objects are the right ones, their identities tell. */
static int is_whole(u64 room)
{
    const u8 *data = (const u8 *)table, *behind = (const u8 *)&table->of_paths;
    if (load(table->magic) != load(MAGIC) || table->size > room || table->paths < sizeof *table || table->paths > table->size
        || digest(0, behind, table->paths - ((u64)behind - (u64)table)) != table->checksum || table->count > MOST
        || data[table->size - 1])
        return 0;
    u64 hash = 0;
    for (u32 i = 0; i < table->count; i++) {
        const u8 *path = data + table->strings + objects[i].path;
        u64 start = objects[i].hash, size = length(path);
        if (start) {
            if (size < start + HASH)
                return 0;
            hash = digest(hash, path, start);
            path += start + HASH;
            size -= start + HASH;
        }
        hash = digest(hash, path, size);
    }
    return hash == table->of_paths;
}

EXPORTED unsigned la_version(unsigned version)
{
    const ElfW(Phdr) *last = table_segment();
    table = (const void *)((const char *)__ehdr_start + last->p_vaddr);
    objects = (const void *)((const char *)table + table->objects);
    if (!is_whole(last->p_filesz))
        state = OUT;
    return version;
}

EXPORTED unsigned la_objopen(struct link_map *map, Lmid_t space, uintptr_t *cookie)
{
    if (state != STARTING || space != LM_ID_BASE)
        return 0;
    u32 at = seen;
    if (seen && !maps[table->loader])
        at = table->loader;
    else if (seen && equal(map->l_name, "linux-vdso.so.1"))
        return 0;
    else if (at == table->loader)
        at = ++seen;
    const struct object *object = &objects[at];
    /* the program has a name where it was started by ld.so as a command, the loader that by which the kernel started it */
    int named = at == 0 ? !*map->l_name : at == table->loader || (at < table->count && equal(map->l_name, (const char *)table + table->strings + object->path));
    if (!named || identity(map, object) != object->identity || (object->flags & WRITTEN && !find_tags(map, &lefts[at]))) {
        stay_out();
        return 0;
    }
    maps[at] = map;
    *cookie = at;
    if (at == table->loader) {
        searches = is_set("LD_LIBRARY_PATH");
        /* other rules of lookup, other directories, or another module that wants to see what is bound */
        int others = is_set("LD_DYNAMIC_WEAK") || is_set("LD_ORIGIN_PATH") || is_set("LD_PROFILE") || is_set("LD_AUDIT");
        if ((searches && table->flags & LATE) || (others && !(table->flags & PROOF))) {
            stay_out();
            return 0;
        }
    } else
        seen++;
    if (seen == table->count || (seen == table->loader && seen + 1 == table->count))
        apply();
    return 0;
}

EXPORTED char *la_objsearch(const char *name, uintptr_t *cookie, unsigned flag)
{
    if (state > WROTE || flag != LA_SER_ORIG || searches || is_path(name) || *cookie >= table->count)
        return (char *)name;
    const struct object *object = &objects[*cookie];
    const struct name *names = (const void *)((const char *)table + object->names);
    const char *strings = (const char *)table + table->strings;
    for (u32 i = 0; i < object->named; i++)
        if (equal(strings + names[i].string, name)) {
            const char *path = strings + objects[names[i].object].path;
            if (call(FACCESSAT, -100, (long)path, 0, 0) == 0)
                return (char *)path;
            if (state == STARTING)
                stay_out();
            break;
        }
    return (char *)name;
}

static void put(const void *data, u64 size)
{
    for (u64 done = 0; done < size;) {
        long more = call(WRITE, 1, (long)data + done, size - done, 0);
        if (more <= 0)
            call(EXIT_GROUP, UNREADABLE, 0, 0, 0);
        done += more;
    }
}

static void put_place(u64 number, u64 base)
{
    u64 about[] = { number, base, base, 0 };
    put(about, sizeof about);
}

/* What the objects hold in memory that can be written, for prove.py to compare; of the loader and of the stack only where they are. */
static void print(void)
{
    for (u32 i = 0; i < table->count; i++) {
        if (i == table->loader) {
            put_place(i, maps[i]->l_addr);
            put_place(table->count, (u64)environment());
            continue;
        }
        const ElfW(Ehdr) *header = (const void *)(maps[i]->l_addr + objects[i].ranges[0].start);
        const ElfW(Phdr) *each = (const void *)(maps[i]->l_addr + objects[i].ranges[1].start);
        for (u32 j = 0; j < header->e_phnum; j++)
            if (each[j].p_type == PT_LOAD && each[j].p_flags & PF_W) {
                u64 start = maps[i]->l_addr + each[j].p_vaddr, about[] = { i, maps[i]->l_addr, start, each[j].p_memsz };
                put(about, sizeof about);
                put((const void *)start, each[j].p_memsz);
            }
    }
}

EXPORTED void la_activity(uintptr_t *cookie, unsigned flag)
{
    if (flag != LA_ACT_CONSISTENT || *cookie != 0 || !table)
        return;
    if (state == WROTE)
        restore();
    if (table->flags & PROOF) {
        if (state == WROTE)
            print();
        call(EXIT_GROUP, state == WROTE ? 0 : DIFFERS, 0, 0, 0);
    }
    if (state != OUT)
        state = DONE;
}
