"""What `ruby3.1 sqlite3 file` are run with: every program of the three packages, and all that come along with them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from real.debstore import Store, is_elf

PACKAGES = ("ruby3.1", "sqlite3", "file")

# Each library here opens an extension module, and through it a C library, with dlopen(3).
EXTENSIONS = """
require "bigdecimal"; require "date"; require "digest/sha2"; require "etc"; require "fiddle"; require "io/console"
require "json"; require "nkf"; require "objspace"; require "openssl"; require "psych"; require "pty"; require "readline"
require "ripper"; require "sdbm"; require "socket"; require "strscan"; require "syslog"; require "zlib"
puts JSON.generate("a" => [1, 2.5, nil]), OpenSSL::Digest.hexdigest("SHA256", "abc"), OpenSSL::OPENSSL_LIBRARY_VERSION
puts Zlib.inflate(Zlib.deflate("deflated")), Psych.dump("yaml" => [1, 2]), Readline::VERSION, Digest::SHA512.hexdigest("abc")
puts BigDecimal("1") / 3, Date.new(2024, 2, 29).cwday, NKF.nkf("-e", "\u3042").bytes.inspect, Ripper.sexp("1 + 1").inspect
puts OpenSSL::PKey::EC.generate("prime256v1").check_key, Thread.new { Socket.getservbyname("http") rescue 80 }.value
"""
ALL_EXTENSIONS = """
$LOAD_PATH.each do |directory|
  Dir.glob("**/*.so", base: directory).sort.each do |name|
    require File.join(directory, name)
    puts name
  rescue LoadError => error
    puts "#{name}: #{error.message}"
  end
end
"""
SQL = b"""
create table points(x integer primary key, y real, name text);
insert into points(y, name) values (1.5, 'one'), (2.5, 'two'), (3.5, null);
.headers on
.mode column
select count(*), sum(y), group_concat(name) from points;
with recursive n(i) as (values(1) union all select i + 1 from n where i < 10) select group_concat(i * i) from n;
select json_extract('{"a": [1, {"b": 2}]}', '$.a[1].b'), round(sqrt(2), 6), upper(hex('blob')), quote(zeroblob(4));
create virtual table words using fts5(text);
insert into words values ('the quick brown fox'), ('the lazy dog');
select text from words where words match 'quick';
.schema
select * from missing;
"""
RUBY = "bin/ruby3.1"


@dataclass(frozen=True)
class Run:
    """One run: a program of a package, what it is given, and the program that interprets it, if it is a script."""

    package: str
    program: str
    arguments: tuple[str, ...] = ("--version",)
    stdin: bytes = b""
    title: str = ""
    script: bool = False

    def __str__(self) -> str:
        return f"{Path(self.program).name} {self.title or ' '.join(self.arguments)}".strip()

    def elf(self, store: Store) -> Path:
        """The ELF program that the kernel starts."""
        return store.path("ruby3.1") / RUBY if self.script else store.path(self.package) / self.program

    def argv(self, store: Store) -> list[str | Path]:
        """The command. An argument `PACKAGE:PATH` means that path in the package's store path."""
        places = {package.name: Path(package.path) for package in store.packages}
        words: list[str | Path] = []
        for word in self.arguments:
            package, colon, inside = word.partition(":")
            words.append(places[package] / inside if colon and package in places else word)
        own = store.path(self.package) / self.program
        return [*([self.elf(store)] if self.script else []), own, *words]


TABLE = (
    Run("ruby3.1", RUBY),
    Run("ruby3.1", RUBY, ("-e", EXTENSIONS), title="-e json, openssl, zlib, …"),
    Run("ruby3.1", RUBY, ("-W0", "-e", ALL_EXTENSIONS), title="-e every extension module"),
    Run(
        "ruby3.1", "bin/irb3.1", ("-f", "--noprompt"), b'6 * 7\nrequire "json"\nJSON.parse("[1, 2]").sum\n', script=True
    ),
    Run("ruby3.1", "bin/erb3.1", (), b"<% 3.times do |i| %><%= i %> <% end %>\n", "on a template", True),
    Run("ruby3.1", "bin/gem3.1", ("list", "--local"), script=True),
    Run("ruby3.1", "bin/gem3.1", ("specification", "rake", "version"), script=True),
    Run("ruby3.1", "bin/rake3.1", ("-e", "puts Rake::FileList['/no/such/*'].size"), title="-e …", script=True),
    Run("ruby3.1", "bin/racc3.1", ("--runtime-version",), script=True),
    Run("ruby3.1", "bin/rbs3.1", ("methods", "Integer"), script=True),
    Run("ruby3.1", "bin/ri3.1", ("--list-doc-dirs",), script=True),
    Run("sqlite3", "bin/sqlite3"),
    Run("sqlite3", "bin/sqlite3", ("-batch", ":memory:"), SQL, "on SQL"),
    Run("file", "bin/file"),
    Run(
        "file",
        "bin/file",
        ("--brief", "libmagic-mgc:lib/file/magic.mgc", "ruby3.1:bin/erb3.1", "file:bin"),
        title="on files",
    ),
    Run("file", "bin/file", ("--mime", "-"), b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", "--mime on standard input"),
    Run("openssl", "bin/openssl", ("version", "-a")),
    Run("openssl", "bin/openssl", ("dgst", "-sha256"), b"abc"),
    Run("openssl", "bin/openssl", ("list", "-digest-algorithms", "-provider", "legacy", "-provider", "default")),
)


def runs(store: Store) -> list[Run]:
    """The table, and `--version` of each program that is not in it."""
    return [*TABLE, *(run for run in every_program(store) if run not in TABLE)]


def every_program(store: Store) -> Iterator[Run]:
    """One run of each program in a bin directory: ELF files, and Ruby's scripts."""
    for package in store.packages:
        for path in sorted((Path(package.path) / "bin").glob("*")):
            if is_elf(path):
                yield Run(package.name, f"bin/{path.name}")
            elif path.is_file() and b"ruby" in path.read_bytes().splitlines()[0]:
                yield Run(package.name, f"bin/{path.name}", script=True)
