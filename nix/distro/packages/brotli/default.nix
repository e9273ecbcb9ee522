{
  stdenv,
  source,
  cmake,
  ninja,
}:

stdenv.mkDerivation {
  pname = "brotli";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
    "lib"
  ];

  nativeBuildInputs = [
    cmake
    ninja
  ];

  doCheck = true;

  passthru.programs = [
    {
      argv = [
        "bin/brotli"
        "--decompress"
        "--stdout"
        "numbers.br"
      ];
      setup = "seq 10000 > numbers; brotli --keep numbers";
    }
  ];
}
