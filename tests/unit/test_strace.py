"""What strace wrote is read as it was meant; pure."""

from nix_harden.tracing.callgrind import Instructions, classify
from nix_harden.tracing.callgrind import parse as parse_callgrind
from nix_harden.tracing.seen import Linking, directory
from nix_harden.tracing.strace import Call, parse, unescape
from nix_harden.tracing.trace import read_statistics, split

LOG = r"""
1.000000 [00007f0000000010] --- stopped by SIGSTOP ---
1.500000 [00007f0000000010] --- SIGCONT {si_signo=SIGCONT, si_code=SI_USER, si_pid=1, si_uid=0} ---
1.600000 [00007f0000000010] brk(NULL) = 0x5600
1.700000 [00007f0000000011] openat(AT_FDCWD</a "b">, "c\"\n\303\244.so", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory) (DELAYED)
1.800000 [00007f0000000012] openat(AT_FDCWD</w>, "/lib/d.so", O_RDONLY|O_CLOEXEC) = 3</lib/d.so.1>
1.810000 [00007f0000000012] newfstatat(3</lib/d.so.1>, "", {st_mode=S_IFREG|0644, st_size=1, ...}, AT_EMPTY_PATH) = 0
1.820000 [00007f0000000012] mmap(NULL, 3, PROT_READ, MAP_PRIVATE, 3</lib/d\76.so>, 0) = 0x7f0000001000
1.900000 [00007f0000000090] access("/etc/x", F_OK) = -1 ENOENT (No such file or directory)
1.950000 [00007f0000000012] openat(AT_FDCWD</w>, "/lib/later.so", O_RDONLY) = -1 ENOENT (No such file or directory)
2.000000 [0000560000000000] --- SIGTRAP {si_signo=SIGTRAP, si_code=SI_KERNEL, si_addr=NULL} ---
2.500000 [????????????????] +++ killed by SIGTRAP +++
""".strip().splitlines()


def test_a_log_begins_when_the_program_goes_on_and_ends_at_its_first_instruction() -> None:
    log = parse(LOG)
    assert (log.begin, log.end) == (1.5, 2.0)
    assert [call.name for call in log.calls] == ["brk", "openat", "openat", "newfstatat", "mmap", "access", "openat"]


def test_paths_are_unquoted_and_joined_and_calls_on_descriptors_are_no_lookups() -> None:
    calls = parse(LOG).calls
    assert [call.path for call in calls] == [
        None,
        '/a "b"/c"\nä.so',
        "/lib/d.so",
        None,
        None,
        "/etc/x",
        "/lib/later.so",
    ]
    assert [call.is_failed_lookup for call in calls] == [False, True, False, False, False, True, True]
    assert [call.delayed for call in calls] == [False, True] + 5 * [False]
    assert calls[4].file == "/lib/d>.so"


def test_strings_are_those_of_c() -> None:
    assert unescape(r"a\\b\"\t\0\1773") == 'a\\b"\t\0\x7f3'
    assert unescape(r"\377") == "\udcff"


def test_the_first_call_from_elsewhere_ends_the_loaders_work() -> None:
    """What a constructor has it load later is not of its start."""
    calls = parse(LOG).calls
    mine, later = split(calls, [(0x7F0000000000, 0x7F0000000080)])
    assert (len(mine), len(later)) == (5, 2)
    assert split(calls, ()) == ((), calls)


def test_subdirectories_for_processors_belong_to_their_directory() -> None:
    """As glibc makes them, also where the loader asks whether one, or the directory itself, is there at all."""
    for path in ("liba.so", "glibc-hwcaps/x86-64-v3/liba.so", "tls/haswell/x86_64/liba.so"):
        assert directory(Call(0, 0, "openat", f"/store/a/lib/{path}")) == "/store/a/lib"
    for path in ("/store/a/lib", "/store/a/lib/glibc-hwcaps/x86-64-v3", "/store/a/lib/tls/x86_64"):
        assert directory(Call(0, 0, "newfstatat", path)) == "/store/a/lib"
    assert directory(Call(0, 0, "openat", "/store/x86_64/lib/a.so")) == "/store/x86_64/lib"
    assert directory(Call(0, 0, "openat", "/a.so")) == "/"


STATISTICS = """
     {pid}:\trun-time linker statistics:
     {pid}:\t  total startup time in dynamic loader: 1000 cycles
     {pid}:\t\t    time needed for relocation: {relocation} cycles (60.0%)
     {pid}:\t                 number of relocations: 83
     {pid}:\t      number of relocations from cache: 7
     {pid}:\t        number of relative relocations: 3
     {pid}:\t\t   time needed to load objects: 300 cycles (30.0%)
"""


def test_the_last_of_several_statistics_counts() -> None:
    """A wrapper's loader writes before that of the program it becomes."""
    found = read_statistics(STATISTICS.format(pid=1, relocation=100) + STATISTICS.format(pid=1, relocation=600))
    assert found == Linking(1000, 0.3, 0.6, 83, 7, 3)

    assert read_statistics("no such thing") is None


CALLGRIND = """events: Ir
summary: 1135

ob=/lib/ld.so
fl=./elf/dl-lookup.c
fn=do_lookup_x
10 500
cfn=strcmp
calls=3 20
11 30
fn=strcmp
20 35
fn=_dl_relocate_object
5 100
cfn=do_lookup_x
calls=1 10
6 530
fi=./elf/do-rel.h
7 400
fn=main
1 100
cfn=strcmp
calls=1 20
1 5
"""


def test_string_functions_are_counted_for_their_callers_and_calls_not_twice() -> None:
    spent = parse_callgrind(CALLGRIND.splitlines())
    assert spent == {"do_lookup_x": 530, "_dl_relocate_object": 500, "main": 105}
    assert classify(spent) == Instructions(1135, 530, 500)


def test_a_loader_without_names_is_said_to_be_stripped() -> None:
    assert "stripped" in str(classify(parse_callgrind(["fn=0x1234\n", "1 100\n"])))
