{
  stdenv,
  source,
  cmake,
  ninja,
  lz4,
  xz,
  zlib,
}:

stdenv.mkDerivation {
  pname = "zstd";
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
  buildInputs = [
    lz4
    xz
    zlib
  ];
  cmakeDir = "../build/cmake";
  cmakeFlags = [
    "-DZSTD_BUILD_STATIC=OFF"
    "-DZSTD_PROGRAMS_LINK_SHARED=ON"
    "-DZSTD_LZ4_SUPPORT=ON"
    "-DZSTD_LZMA_SUPPORT=ON"
    "-DZSTD_ZLIB_SUPPORT=ON"
  ];

  # Upstream's tests want the static library, and minutes.
  doCheck = false;

  passthru.programs = [
    {
      argv = [
        "bin/zstd"
        "--decompress"
        "--stdout"
        "--quiet"
        "numbers.zst"
        "numbers.gz"
        "numbers.xz"
        "numbers.lz4"
      ];
      setup = ''
        seq 10000 > numbers
        for format in zstd gzip xz lz4; do zstd --quiet --format=$format numbers; done
      '';
    }
  ];
}
