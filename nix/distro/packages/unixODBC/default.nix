{
  stdenv,
  source,
  autoreconfHook,
  readline,
}:

stdenv.mkDerivation {
  pname = "unixODBC";
  inherit (source) version;
  src = source;

  nativeBuildInputs = [ autoreconfHook ];
  buildInputs = [ readline ];
  configureFlags = [
    "--disable-static"
    "--disable-drivers"
    "--sysconfdir=/etc"
  ];

  enableParallelBuilding = true;

  passthru.programs = [
    {
      argv = [
        "bin/odbcinst"
        "-q"
        "-d"
      ];
      setup = "printf '[One]\\nDriver=one.so\\n[Two]\\nDriver=two.so\\n' > odbcinst.ini";
      env.ODBCSYSINI = ".";
    }
  ];
}
