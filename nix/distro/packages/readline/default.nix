{
  stdenv,
  source,
  ncurses,
}:

stdenv.mkDerivation {
  pname = "readline";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  propagatedBuildInputs = [ ncurses ];
  configureFlags = [
    "--with-curses"
    "--disable-install-examples"
  ];
  # Its library would name none and leave ncurses to each program.
  makeFlags = [ "SHLIB_LIBS=-lncursesw" ];
  enableParallelBuilding = true;
  # It has no test suite.
}
