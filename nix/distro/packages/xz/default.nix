{ stdenv, source }:

stdenv.mkDerivation {
  pname = "xz";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  enableParallelBuilding = true;
  doCheck = true;

  passthru.programs = [
    {
      argv = [
        "bin/xz"
        "-9"
        "--stdout"
      ];
      stdin = "the same words, the same words, the same words\n";
    }
    {
      setup = "seq 9999 | xz > numbers.xz";
      argv = [
        "bin/xz"
        "--list"
        "--verbose"
        "numbers.xz"
      ];
    }
    {
      setup = "seq 9999 | xz > numbers.xz";
      argv = [
        "bin/xzdec"
        "numbers.xz"
      ];
    }
    {
      setup = "seq 9999 | xz --format=lzma > numbers.lzma";
      argv = [
        "bin/lzmainfo"
        "numbers.lzma"
      ];
    }
  ];
}
