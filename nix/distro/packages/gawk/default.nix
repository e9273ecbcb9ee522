{
  stdenv,
  source,
  mpfr,
  readline,
}:

stdenv.mkDerivation {
  pname = "gawk";
  inherit (source) version;
  src = source;

  # Debian leaves out the manual, from which the files of awklib are taken.
  postPatch = ''
    substituteInPlace Makefile.in --replace-fail 'extras doc awklib' extras
    # for want of the locale en_US.UTF-8
    sed -i -E '/^\t[[:alnum:]_ -]+\\?$/s/\<(commas|mbstr1|mbstr2)\>//g' test/Makefile.in
  '';

  buildInputs = [
    mpfr
    readline
  ];
  enableParallelBuilding = true;
  doCheck = true;

  # It loads its extensions by name, with dlopen.
  passthru.programs = [
    {
      argv = [
        "bin/gawk"
        "-M"
        "BEGIN { print 2 ^ 200, sqrt(2) }"
      ];
    }
    {
      setup = "echo text > a.txt";
      argv = [
        "bin/gawk"
        "-l"
        "readfile"
        "-l"
        "ordchr"
        "BEGIN { printf \"%s%d\\n\", readfile(\"a.txt\"), ord(\"A\") }"
      ];
    }
    {
      argv = [
        "bin/gawk"
        "@load \"filefuncs\"; BEGIN { print stat(\"/proc/self/cwd\", data), data[\"type\"] }"
      ];
    }
  ];
}
