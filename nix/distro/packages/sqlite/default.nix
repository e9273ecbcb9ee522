{
  stdenv,
  source,
  readline,
  tcl,
  zlib,
}:

stdenv.mkDerivation {
  pname = "sqlite";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  # The program takes the library instead of compiling all of it again.
  postPatch = ''
    substituteInPlace Makefile.in --replace-fail 'shell.c sqlite3.c \' 'shell.c libsqlite3.la \'
    sed -i 's/^\(sqlite3$(TEXE):.*\) sqlite3\.c$/\1 libsqlite3.la/' Makefile.in
  '';

  nativeBuildInputs = [ tcl ];
  buildInputs = [
    readline
    zlib
  ];
  configureFlags = [
    "--disable-tcl"
    "--enable-load-extension"
    "--with-readline-inc=-I${readline.dev}/include"
  ];
  # The test suite needs a Tcl to link to.

  passthru.programs = [
    {
      argv = [ "bin/sqlite3" ];
      stdin = ''
        create table t(a integer primary key, b text);
        insert into t(b) values ('one'), ('two'), ('three');
        select a, b, length(b), upper(b) from t order by b;
        select json_group_array(b) from t;
        with recursive c(x) as (values(1) union all select x+1 from c where x<10) select sum(x*x) from c;
      '';
    }
    {
      argv = [
        "bin/sqlite3"
        ":memory:"
        "select hex(sqlar_compress(zeroblob(1000)))"
      ];
    }
  ];
}
