{
  stdenv,
  source,
  sqlite,
  unixODBC,
}:

stdenv.mkDerivation {
  pname = "sqliteodbc";
  inherit (source) version;
  src = source;

  buildInputs = [
    sqlite
    unixODBC
  ];
  configureFlags = [
    "--with-sqlite3=${sqlite.dev}"
    "--with-odbc=${unixODBC}"
  ];
  # Upstream opens libodbcinst.so.2 by its name, if configure can, rather than
  # link to it.
  preConfigure = ''
    export LD_LIBRARY_PATH=${unixODBC}/lib
  '';
  postConfigure = ''
    unset -v LD_LIBRARY_PATH
  '';
  postFixup = ''
    patchelf --add-rpath ${unixODBC}/lib "$out"/lib/libsqlite3odbc-*.so
  '';

  # Upstream's rules make no directories.
  preInstall = ''
    mkdir -p "$out/lib"
  '';

  # The driver manager's shell, told where this driver is
  postInstall = ''
    mkdir "$out/bin" "$out/etc"
    printf '[SQLite3]\nDriver=%s\n' "$out/lib/libsqlite3odbc.so" > "$out/etc/odbcinst.ini"
    {
      echo "#!$SHELL"
      echo "export ODBCSYSINI=$out/etc"
      echo 'exec ${unixODBC}/bin/isql "$@"'
    } > "$out/bin/isql"
    chmod +x "$out/bin/isql"
  '';

  # The driver asks libodbcinst.so.2 which file `data` is.
  passthru.programs = [
    {
      argv = [
        "bin/isql"
        "-b"
        "-v"
        "data"
      ];
      setup = "printf '[data]\\nDriver=SQLite3\\nDatabase=data.db\\n' > odbc.ini";
      stdin = ''
        create table numbers (n integer, name text)
        insert into numbers values (1, 'one'), (2, 'two')
        select name, n * 2 from numbers order by n
      '';
      env.ODBCINI = "odbc.ini";
    }
  ];
}
