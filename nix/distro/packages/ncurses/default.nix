{ stdenv, source }:

stdenv.mkDerivation {
  pname = "ncurses";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  configureFlags = [
    "--with-shared"
    "--with-cxx-shared"
    "--with-versioned-syms"
    "--without-normal"
    "--without-debug"
    "--without-ada"
    "--without-tests"
    "--without-manpages"
    "--disable-stripping"
    "--enable-widec"
    "--enable-pc-files"
  ];
  # Its configure script refuses options that it does not know.
  setOutputFlags = false;
  preConfigure = ''
    configureFlagsArray+=("--includedir=$dev/include" "--with-pkg-config-libdir=$dev/lib/pkgconfig")
  '';
  enableParallelBuilding = true;

  # Its own programs write screens; what a terminal can do is text. No suite.
  postInstall = ''
    for library in ncurses form panel menu; do
      ln -s "lib''${library}w.so" "$out/lib/lib$library.so"
      ln -s "''${library}w.pc" "$dev/lib/pkgconfig/$library.pc"
    done
    ln -s libncursesw.so "$out/lib/libcurses.so"
    moveToOutput bin/ncursesw6-config "$dev"
  '';

  passthru.programs = [
    {
      argv = [
        "bin/infocmp"
        "-d"
        "vt100"
        "xterm"
      ];
    }
    {
      argv = [
        "bin/tput"
        "-Txterm"
        "cup"
        "3"
        "4"
      ];
    }
  ];
}
