{ stdenv, source }:

stdenv.mkDerivation {
  pname = "lz4";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
    "lib"
  ];

  enableParallelBuilding = true;
  makeFlags = [
    "PREFIX=$(out)"
    "INCLUDEDIR=$(dev)/include"
    "LIBDIR=$(lib)/lib"
    "BUILD_STATIC=no"
  ];

  # The others take minutes each.
  doCheck = true;
  checkFlags = [ "-C tests" ];
  checkTarget = "test-lz4-basic test-lz4-dict";

  passthru.programs = [
    {
      argv = [
        "bin/lz4cat"
        "numbers.lz4"
      ];
      setup = "seq 10000 > numbers; lz4 -q -9 numbers numbers.lz4";
    }
  ];
}
