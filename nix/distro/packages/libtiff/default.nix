{
  stdenv,
  source,
  cmake,
  libjpeg,
  ninja,
  xz,
  zlib,
  zstd,
}:

stdenv.mkDerivation {
  pname = "libtiff";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  nativeBuildInputs = [
    cmake
    ninja
  ];
  propagatedBuildInputs = [
    libjpeg
    xz
    zlib
    zstd
  ];
  doCheck = true;

  passthru.programs = [
    {
      setup = ''
        { printf 'P5 64 64 255\n'; seq 10000 | head -c 4096; } > gray.pgm
        ppm2tiff -c zip gray.pgm gray.tiff
        tiffcp -c lzma gray.tiff again.tiff
      '';
      argv = [
        "bin/tiffinfo"
        "-D"
        "-c"
        "-s"
        "gray.tiff"
        "again.tiff"
      ];
    }
    {
      setup = ''
        { printf 'P6 64 64 255\n'; seq 10000 | head -c 12288; } > color.ppm
        ppm2tiff -c jpeg color.ppm color.tiff
      '';
      argv = [
        "bin/tiffinfo"
        "-d"
        "color.tiff"
      ];
    }
  ];
}
