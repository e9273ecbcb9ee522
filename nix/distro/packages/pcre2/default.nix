{
  stdenv,
  source,
  bzip2,
  readline,
  zlib,
}:

stdenv.mkDerivation {
  pname = "pcre2";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  buildInputs = [
    bzip2
    readline
    zlib
  ];
  configureFlags = [
    "--enable-jit"
    "--enable-pcre2grep-libbz2"
    "--enable-pcre2grep-libz"
    "--enable-pcre2test-libreadline"
  ];
  enableParallelBuilding = true;
  doCheck = true;

  postInstall = ''
    moveToOutput bin/pcre2-config "$dev"
  '';

  passthru.programs = [
    {
      setup = "seq 999 | gzip > numbers.gz; seq 999 | bzip2 > numbers.bz2";
      argv = [
        "bin/pcre2grep"
        "^(\\d)\\1\\1$"
        "numbers.gz"
        "numbers.bz2"
      ];
    }
    {
      argv = [
        "bin/pcre2test"
        "-q"
        "-jit"
      ];
      stdin = "/(?<n>a+)b\\k<n>/i\n    xxaaBAA\n    no\n";
    }
  ];
}
