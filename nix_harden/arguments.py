"""The words of the command line: subcommands, options, examples. `--help`, completions and the man page are made of them.

It is long, as all options of all subcommands are here, to be compared by eye.
"""

import argparse
from collections.abc import Sequence
from typing import TypeAlias

from nix_harden import __version__
from nix_harden.settings import TABLE, Form

STATUS = """exit status:
  0  done
  1  findings: under --strict, of an audit, a file that is broken
  2  a wrong option, setting or argument
  3  a tool or the system failed
"""
ABOUT = """Bind the shared libraries of a Nix derivation by absolute store path.

In a build the setup hook calls `fixup`. By hand, `audit` says what a loader
will do with a program, and what is wrong with it; it changes nothing and is a
good place to start."""

FIRST = f"""nix-harden {__version__}: programs that find their libraries without searching. For example:
  nix-harden audit PROGRAM                does everything resolve, and how much is in vain?
  nix-harden freeze PROGRAM -o OUT        a copy that searches for nothing
  nix-harden prelink PROGRAM -o OUT       a copy whose loader looks no symbol up, either
  nix-harden why PROGRAM LIB              who needs a library, and how it is found
  nix-harden report PATH -o report.html   all of it on one page
  nix-harden split PROGRAM -o DIR         a program as plain files
In a derivation: nativeBuildInputs = [ nixHardenNeeded ]; all commands: nix-harden --help"""

END, OBSERVE = "--", "--observe"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """The parser of the command `nix-harden`; `command` is the name of the subcommand that was given."""
    found = argparse.ArgumentParser(
        prog="nix-harden", description=ABOUT, epilog=STATUS, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--version", action="version", version=f"nix-harden {__version__}")
    commands = found.add_subparsers(required=True, metavar="COMMAND", dest="command")
    _add_fixup(commands)
    _add_fixup_store(commands)
    _add_unharden(commands)
    _add_audit(commands)
    _add_audit_set(commands)
    _add_freeze(commands)
    _add_prelink(commands)
    _add_prelink_outputs(commands)
    _add_graph(commands)
    _add_why(commands)
    _add_report(commands)
    _add_trace(commands)
    _add_split(commands)
    _add_join(commands)
    _add_diff(commands)
    _add_hook(commands)
    return found


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of the command; `rest` are those behind `--` that are for a program which is run, and which argparse would not leave alone."""
    end = words.index(END) if END in words else len(words)
    if OBSERVE not in words[:end]:
        end = len(words)
    return parser().parse_args(words[:end], argparse.Namespace(rest=words[end + 1 :]))


def _add(
    commands: Commands, name: str, words: str, summary: str, description: str, *examples: str
) -> argparse.ArgumentParser:
    """A subcommand that takes `words`, whose help ends with examples and the exit statuses."""
    lines = "".join(f"  nix-harden {name} {example}\n" for example in examples)
    return commands.add_parser(
        name,
        usage=f"nix-harden {name} {words}",
        help=summary,
        # completions show the first line
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{description}",
        epilog=f"examples:\n{lines}\n{STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _add_fixup(commands: Commands) -> None:
    sub = _add(
        commands,
        "fixup",
        "--output NAME=PATH… [options]",
        "bind the outputs of one derivation",
        """Make every NEEDED, and every library's SONAME, in the ELF files of the outputs
an absolute store path. What an option says can be said in the environment
too, by the variable in brackets.""",
        "--output out=/nix/store/…-hello --input /nix/store/…-zlib",
        "--output out=/nix/store/…-hello --dry-run --verbose",
    )
    for setting in TABLE:
        if setting.flag:
            _add_option(sub, setting.flag, setting.name, setting.form, f"{setting.sentence} [{setting.variable}]")


def _add_fixup_store(commands: Commands) -> None:
    sub = _add(
        commands,
        "fixup-store",
        "[options] STORE",
        "bind every package of a store directory that no Nix keeps",
        """Harden each entry of STORE as `fixup` does the outputs of one derivation, once all
that it refers to is done; packages that refer to each other are hardened
together. What a package refers to are its inputs: what its files, links and
search paths name by their place in STORE. The store is STORE, whatever
NIX_STORE says. Where a package fails the others go on; the worst failure decides
the exit status.

A store of Nix itself is refused: its packages are known by their contents.""",
        "--dry-run ./store",
        "--mode needed --jobs 4 ./store",
    )
    sub.add_argument("store", metavar="STORE", help="the directory whose entries are packages, changed in place")
    for setting in TABLE:
        if setting.flag and setting.name not in ("outputs", "inputs"):
            words = f"{setting.sentence} [{setting.variable}]"
            _add_option(sub, setting.flag, setting.name, setting.form, words, one=True)


def _add_unharden(commands: Commands) -> None:
    sub = _add(
        commands,
        "unharden",
        "[options] PATH…",
        "make absolute names bare again",
        """Make absolute NEEDED and SONAME bare again, with their directories in the
search path, in every ELF file of store paths, directories or files; also
where nuke-refs or remove-references-to has overwritten the hashes.

A name that would lead to another file in a program stays absolute, with a
warning; the exit status is 1 then.""",
        "./result-copy",
        "--carry ./bundle/lib ./bundle",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="what to unharden, in place")
    sub.add_argument(
        "--carry", metavar="DIR", help="copy the hardened libraries that are needed into DIR, and unharden them too"
    )
    for setting in TABLE:
        if setting.flag and setting.name in ("exclude", "jobs", "dry_run", "verbose", "json"):
            _add_option(sub, setting.flag, setting.name, setting.form, f"{setting.sentence} [{setting.variable}]")


def _add_audit(commands: Commands) -> None:
    sub = _add(
        commands,
        "audit",
        "[options] PATH…",
        "check what a loader will do with files and store paths",
        """Walk every ELF file at and below the paths with all that its loader maps, by
the loader's own rules, and check it; what this machine runs is given to its
real loader as well, and the two answers are compared. The store is
/nix/store, or what NIX_STORE says.

Warnings and errors lead to exit status 1, or those that --fail-on names.""",
        "/run/current-system/sw/bin/git",
        "--json --fail-on missing-target,soname-twice ./result",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="a store path, directory or ELF file")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print roots, findings and summary as JSON")
    sub.add_argument(
        "--into",
        metavar="DIR",
        help="write audit.json and audit.sarif into DIR, which is there, beside what is printed",
    )
    form.add_argument("--sarif", action="store_true", help="print the findings as SARIF 2.1.0, for code-scanning tools")
    sub.add_argument(
        "--fail-on",
        action="extend",
        type=lambda words: words.split(","),
        metavar="CHECK,…",
        help="exit with status 1 for warnings and errors of these checks alone; CHECK:note counts notes too",
    )
    sub.add_argument(
        "--loader", metavar="PATH", help="the loader of libraries, instead of that beside the libc which they find"
    )
    sub.add_argument(
        "--no-compare",
        dest="compare",
        action="store_false",
        help="run no real loader to compare with; it maps, and runs none of the code",
    )
    sub.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="how many real loaders to run at once; 0 means one a processor"
    )
    sub.add_argument(
        "--symbols",
        action="store_true",
        help="in JSON, count the lookups of symbols that prelinking would spare each program",
    )
    sub.add_argument("--verbose", action="store_true", help="list every note")


def _add_audit_set(commands: Commands) -> None:
    sub = _add(
        commands,
        "audit-set",
        "[options] LIST",
        "make one page and table of the audits of many packages",
        """LIST has a package a line: its name, a tab, and what `nix-harden audit --json`
said of it, a file or a directory with audit.json; a name alone is that of a
package that could not be evaluated. The page says what is left bare and why,
what was found, which programs search most, and what prelinking would spare.""",
        "packages.tsv -o set.html --csv set.csv",
        "packages.tsv --before old.json --json",
    )
    sub.add_argument("list", metavar="LIST", help="the packages and their audits")
    sub.add_argument("-o", "--output", metavar="FILE", help="write the page to FILE")
    sub.add_argument("--csv", metavar="FILE", help="write a table with a row a package to FILE")
    sub.add_argument("--before", metavar="FILE", help="what --json printed of another state, to compare with")
    sub.add_argument("--json", action="store_true", help="print what the page shows, as JSON")


def _add_program(sub: argparse.ArgumentParser) -> argparse._MutuallyExclusiveGroup:
    """A program, and where what is made of it goes."""
    sub.add_argument("program", metavar="PROGRAM", help="an ELF program, or a wrapper that nixpkgs made for one")
    place = sub.add_mutually_exclusive_group()
    place.add_argument("-o", "--output", metavar="OUT", help="the file to write; one that is there is replaced")
    place.add_argument(
        "--in-place",
        action="store_true",
        help="replace the program itself; of a wrapper, the program that it starts",
    )
    return place


def _add_freeze(commands: Commands) -> None:
    sub = _add(
        commands,
        "freeze",
        "[options] PROGRAM (--output OUT | --in-place | --explain-order) [--observe -- ARGS]",
        "bind a finished program's whole closure in a copy of it",
        """Write a copy of a program whose loader searches for nothing. By default, which
is --lift, the copy names every library of its closure by absolute path, in the
loader's order, and no library is changed; that is for glibc's loader. With
--closure DIR the libraries are copied, too, and each is bound to the copies:
for musl, for what the lift refuses, and to carry a program elsewhere.

Nothing of the program is run, unless --observe asks for it: on the machine that
it is for, its loader is asked to list and to bind, before and after, and must
answer the same. A program that cannot be frozen leads to exit status 1.""",
        "/nix/store/…-ffmpeg/bin/ffmpeg -o ~/bin/ffmpeg",
        "--in-place ./result-copy/bin/emacs",
        "--order proven /nix/store/…-ffmpeg/bin/ffmpeg -o ~/bin/ffmpeg",
        "--explain-order /nix/store/…-ffmpeg/bin/ffmpeg",
        "./result/bin/git -o ./bundle/bin/git --closure ./bundle/lib --relative",
        "./result/bin/mpv -o ./mpv --closure ./mpv-lib --observe -- --version",
    )
    _add_program(sub)
    mode = sub.add_mutually_exclusive_group()
    mode.add_argument(
        "--lift", action="store_true", help="name all libraries in the program and change none of them; the default"
    )
    mode.add_argument(
        "--closure",
        metavar="DIR",
        help="copy the libraries into DIR, which is made or empty, and bind program and copies to the copies",
    )
    sub.add_argument(
        "--relative",
        action="store_true",
        help="bind the copies by $ORIGIN, so that program and DIR can be moved together",
    )
    sub.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="LIB",
        help="a library that the program opens as it runs: a path, or a name that it would search for",
    )
    sub.add_argument(
        "--order",
        choices=("loader", "proven"),
        default="loader",
        help="the order in which to name them: the loader's own, or one in which symbol lookup passes fewer libraries and is proven to answer the same; constructors of libraries that do not depend on each other then run in another order",
    )
    sub.add_argument(
        "--explain-order",
        action="store_true",
        help="print what the proven order gains, what holds each library in its place and which constructors change theirs; with no OUT, write nothing",
    )
    sub.add_argument("--json", action="store_true", help="print what was frozen as JSON")
    sub.add_argument(
        OBSERVE,
        action="store_true",
        help="RUN the program first, with what follows behind -- for its arguments, and take the libraries that it then opens for opened",
    )


def _add_prelink(commands: Commands) -> None:
    sub = _add(
        commands,
        "prelink",
        "[options] PROGRAM (--output OUT | --in-place | --check | --explain)",
        "work out beforehand what a program's names and symbols mean",
        """Write a copy of a program that names a module of its loader (rtld-audit(7)), and
that module beside it. The module knows which file each name means and which
address each symbol has, so that ld.so neither searches nor looks symbols up. No
library is changed. Where a library is another than it was, or anything else is
not as it was, the module does nothing, and ld.so does all as without it. For
programs of glibc 2.35 and newer, on x86-64 and AArch64.

Nothing of the program is run but what resolves IFUNCs: on the machine that it is
for, its loader relocates it twice, with the module and without, and what lies in
memory then must be the same, or nothing is written and the exit status is 1.""",
        "/nix/store/…-ffmpeg/bin/ffmpeg -o ~/bin/ffmpeg",
        "--in-place ./result-copy/bin/emacs",
        "--check ./prelinked/bin/app",
        "--explain /run/current-system/sw/bin/git",
    )
    place = _add_program(sub)
    place.add_argument(
        "--check",
        action="store_true",
        help="say whether the module of a prelinked program fits and is at work, and what differs where it does not; exit status 1 then",
    )
    place.add_argument(
        "--explain",
        action="store_true",
        help="write nothing, and print what there is to gain: symbols looked up, names searched for, bytes, and who asks for most",
    )
    sub.add_argument(
        "--table", metavar="FILE", help="where the module goes; without it, beside the program, as OUT.prelink.so"
    )
    sub.add_argument("--json", action="store_true", help="print what was done, or seen, as JSON")


def _add_prelink_outputs(commands: Commands) -> None:
    sub = _add(
        commands,
        "prelink-outputs",
        "[options] PATH…",
        "prelink the programs below store paths that have enough to gain",
        """Do as `prelink --in-place` to every ELF program in directories that are laid out as
store paths are, unless a rule keeps it as it is: it looks too few symbols up, or
loads what is not in the store, or another library on another processor. Modules
go into nix-support/prelink of each path. The store is /nix/store, or what
NIX_STORE says. A program that cannot be prelinked is as it was; it is told of,
and the exit status is 1 then.""",
        "./result-copy",
        "--prelink-from 500 --exclude 'bin/*-test' ./result-copy",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="whose programs to prelink, in place")
    for setting in TABLE:
        if setting.flag and setting.name in ("exclude", "prelink_from", "jobs", "dry_run", "json"):
            words = f"{setting.sentence} [{setting.variable}]"
            _add_option(sub, setting.flag, setting.name, setting.form, words, one=True)


def _add_graph(commands: Commands) -> None:
    sub = _add(
        commands,
        "graph",
        "[options] PATH… [-o FILE]",
        "draw what programs load",
        """Draw the object closure of programs and libraries, or of all that are below
directories, by the rules of their loaders: who needs whom, how each name is
found, and what is missing or there twice. FILE's ending says in which form;
without FILE it is DOT, on standard output. SVG and PNG need Graphviz's dot on
PATH. In a wide closure, edges that longer ways imply are left out.""",
        "/run/current-system/sw/bin/git -o git.svg",
        "--why libz.so.1 --cluster ./result/bin/app -o why.png",
        "--store-paths --depth 2 ./result -o paths.svg",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="a program, library, directory or store path")
    sub.add_argument("-o", "--output", metavar="FILE", help="the file to write; one that is there is replaced")
    form = sub.add_mutually_exclusive_group()
    form.add_argument(
        "--format",
        choices=("dot", "svg", "png", "mermaid", "json"),
        metavar="dot|svg|png|mermaid|json",
        help="the form, instead of what FILE's ending says: .dot, .svg, .png, .mmd or .json",
    )
    form.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    sub.add_argument(
        "--store-paths", action="store_true", help="draw store paths and their references, not the objects in them"
    )
    sub.add_argument(
        "--why",
        metavar="LIB",
        help="only what lies on a way to this library: a SONAME, file name, path, or pattern of one",
    )
    sub.add_argument("--depth", type=int, metavar="N", help="only what is N edges or fewer away from a program")
    sub.add_argument("--cluster", action="store_true", help="draw a box around what lies in one store path")
    sub.add_argument(
        "--size",
        choices=("file", "closure"),
        metavar="file|closure",
        help="draw larger what is larger: alone, or with all that it loads",
    )
    sub.add_argument("--all-edges", action="store_true", help="draw those too that longer ways imply")
    sub.add_argument(
        "--loader", metavar="PATH", help="the loader of libraries, instead of that beside the libc which they find"
    )


def _add_why(commands: Commands) -> None:
    sub = _add(
        commands,
        "why",
        "[options] PROGRAM LIB",
        "say why a program loads a library",
        """Say every chain of names from a program to a library, the shortest first, and
how each is found. LIB is a SONAME, a file name, a path, or a pattern of one;
where the program does not load it, the exit status is 1.""",
        "/run/current-system/sw/bin/git libz.so.1",
        "--json ./result/bin/app 'libssl*'",
    )
    sub.add_argument("program", metavar="PROGRAM", help="an ELF program or library, or a wrapper of nixpkgs'")
    sub.add_argument("library", metavar="LIB", help="what to look for in its closure")
    sub.add_argument("--limit", type=int, default=20, metavar="N", help="how many chains to say; 20 by default")
    sub.add_argument("--json", action="store_true", help="print the chains as JSON")


def _add_report(commands: Commands) -> None:
    sub = _add(
        commands,
        "report",
        "[options] PATH… (-o FILE | --json)",
        "make a page of what programs load and why",
        """Make one HTML page of programs, libraries, or all that are below directories:
what is bound, what is bare and why, what an audit finds, duplicates, sizes,
how often their loaders look for files in vain, and the graph. It needs no
network and no server. Loaders are run as by `audit`, and watched by strace
where it is there; a program's own code does not run. The picture needs
Graphviz's dot on PATH; without it the page has everything else. Findings do
not change the exit status.""",
        "/run/current-system/sw/bin/git -o git.html",
        "--no-watch ./result -o result.html",
        "--json ./result > result.json",
    )
    sub.add_argument("paths", nargs="+", metavar="PATH", help="a program, library, directory or store path")
    sub.add_argument("-o", "--output", metavar="FILE", help="the page to write; one that is there is replaced")
    sub.add_argument("--json", action="store_true", help="print what the page holds as JSON")
    sub.add_argument(
        "--loader", metavar="PATH", help="the loader of libraries, instead of that beside the libc which they find"
    )
    sub.add_argument("--no-compare", dest="compare", action="store_false", help="run no real loader to compare with")
    sub.add_argument(
        "--no-watch", dest="watch", action="store_false", help="do not watch loaders at the start of programs"
    )
    sub.add_argument(
        "--jobs", type=int, default=0, metavar="N", help="how many real loaders to run at once; 0 means one a processor"
    )


def _add_trace(commands: Commands) -> None:
    sub = _add(
        commands,
        "trace",
        "[options] PROGRAM [ARGUMENT…]",
        "say what a loader does before a program begins, and how long it takes",
        """Start a program under strace, and several times without, and stop it each
time at its first own instruction: which libraries its loader maps, what it
looks up in vain, the time until then and where it goes. Nothing of `main`
runs, but with --whole; else arguments are for wrappers, which run until they
have started the program that they are for, and for constructors of libraries.

With --against, the figures of the two stand side by side: OTHER as it was
before, PROGRAM as it is now.""",
        "/run/current-system/sw/bin/git",
        "--against /nix/store/…-ffmpeg/bin/ffmpeg /nix/store/…-ffmpeg-hardened/bin/ffmpeg",
        "--delay 1ms --svg start.svg ./result/bin/magick",
        "--whole --limit 30s ./result/bin/magick logo: logo.png",
    )
    sub.add_argument("program", metavar="PROGRAM", help="an ELF program, or a wrapper that nixpkgs made for one")
    sub.add_argument("args", nargs="...", metavar="ARGUMENT", help="what the program is given")
    sub.add_argument("--against", metavar="OTHER", help="the program before, to compare with")
    sub.add_argument(
        "--image",
        metavar="FILE",
        help="what the process of PROGRAM becomes, where that is another script or launcher; it runs until then",
    )
    sub.add_argument(
        "--delay",
        metavar="TIME",
        help="start once more with this delay after each failed lookup, e.g. 200us or 1ms, as a network store has",
    )
    sub.add_argument(
        "--instructions",
        action="store_true",
        help="count what a glibc loader spends on symbol lookup and relocation, by valgrind",
    )
    sub.add_argument(
        "--whole",
        action="store_true",
        help="RUN the program to its end as well, and say what it opens after its start: by dlopen, and by itself; its status is that of this command",
    )
    sub.add_argument(
        "--limit",
        metavar="TIME",
        help="with --whole, end the program by SIGTERM once it has run for this long, e.g. 30s",
    )
    sub.add_argument("--svg", metavar="FILE", help="draw the start into FILE")
    sub.add_argument("--json", action="store_true", help="print all figures as JSON")


def _add_split(commands: Commands) -> None:
    sub = _add(
        commands,
        "split",
        "FILE -o DIR",
        "take an ELF file apart into plain files",
        """Write what FILE holds as files in DIR, which is made: its names, tables and
strings as text, a thing a line, its sections as bytes, and a manifest that says
how they make the file. Every byte is in one of them. `nix-harden join` makes
the file again, with what was changed in the parts. A program of x86-64 or
AArch64 starts from its parts, by the program of its name among them, with the
libraries that the part `needed` says at that moment.""",
        "./result/bin/app -o app-parts",
        "--json /run/current-system/sw/bin/git -o git-parts",
    )
    sub.add_argument("file", metavar="FILE", help="a program, library, object or debug file")
    sub.add_argument("-o", "--output", required=True, metavar="DIR", help="a directory that is not there, or is empty")
    sub.add_argument("--json", action="store_true", help="print what was written, as JSON")


def _add_join(commands: Commands) -> None:
    sub = _add(
        commands,
        "join",
        "DIR -o FILE",
        "make an ELF file of its parts again",
        """Write to FILE what the parts in DIR are of: byte for byte the file that was
split, but for what was changed. Names of libraries may be changed, added and
taken away in the part `needed`, and an interpreter, SONAME or search path be
another; whatever else is text or bytes may be others of the same size. What
cannot be honoured leads to exit status 1.""",
        "app-parts -o ./app",
        "--json git-parts/git -o ./git",
    )
    sub.add_argument(
        "directory", metavar="DIR", help="what split has made, or the program in it, where there are several"
    )
    sub.add_argument(
        "-o", "--output", required=True, metavar="FILE", help="the file to write; one that is there is replaced"
    )
    sub.add_argument("--json", action="store_true", help="print which names were changed, as JSON")


def _add_diff(commands: Commands) -> None:
    sub = _add(
        commands,
        "diff",
        "[options] FILE FILE",
        "compare two builds of an ELF file part by part",
        """Say of each part that `nix-harden split` would write whether it is the same in
both files, differs by addresses alone, or really changed, and by how many lines
or bytes. The instructions of x86-64 and AArch64 are compared without the
distances by which they reach what lies elsewhere. Where anything differs, the
exit status is 1.""",
        "./result/bin/app ./result-copy/bin/app",
        "--json ./result/bin/app /run/current-system/sw/bin/git",
    )
    sub.add_argument("first", metavar="FILE", help="the one build")
    sub.add_argument("second", metavar="FILE", help="the other")
    sub.add_argument("--json", action="store_true", help="print every part, as JSON")


def _add_hook(commands: Commands) -> None:
    sub = _add(
        commands,
        "hook",
        "--program PATH",
        "print the stdenv setup hook",
        "It goes to standard output. A derivation that sources it is hardened by the program.",
        "--program /nix/store/…-nix-harden/bin/nix-harden > nix-harden-needed.sh",
    )
    sub.add_argument(
        "--program", required=True, metavar="PATH", help="the absolute path of the nix-harden that the hook calls"
    )


def _add_option(
    sub: argparse.ArgumentParser, flag: str, name: str, form: Form, sentence: str, *, one: bool = False
) -> None:
    """The option of a setting; `one` says that a list's takes one word each time, so that what follows is an argument."""
    help_text = sentence.replace("%", "%%")
    if form is Form.SWITCH:
        sub.add_argument(flag, dest=name, action="store_const", const="1", help=help_text)
    elif form.is_list:
        nargs = 1 if one else "*" if form is Form.PATHS else "+"
        sub.add_argument(flag, dest=name, action="extend", nargs=nargs, metavar=form.value.rstrip("…"), help=help_text)
    else:
        sub.add_argument(flag, dest=name, metavar=form.value, help=help_text)
