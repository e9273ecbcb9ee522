{
  stdenv,
  source,
  readline,
}:

stdenv.mkDerivation {
  pname = "gdbm";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "lib"
    "dev"
  ];

  buildInputs = [ readline ];
  configureFlags = [ "--enable-libgdbm-compat" ];
  enableParallelBuilding = true;
  doCheck = true;

  passthru.programs = [
    {
      argv = [
        "bin/gdbmtool"
        "--newdb"
        "--norc"
        "a.gdbm"
      ];
      stdin = "store one 1\nstore two 2\nfetch two\ncount\nquit\n";
    }
    {
      setup = "printf 'store one 1\nquit\n' | gdbmtool --newdb --norc a.gdbm";
      argv = [
        "bin/gdbm_dump"
        "--format=binary"
        "a.gdbm"
      ];
    }
  ];
}
