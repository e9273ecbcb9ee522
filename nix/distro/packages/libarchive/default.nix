{
  stdenv,
  source,
  bzip2,
  libxml2,
  lz4,
  mbedtls,
  pkg-config,
  xz,
  zlib,
  zstd,
}:

stdenv.mkDerivation {
  pname = "libarchive";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "lib"
    "dev"
  ];

  nativeBuildInputs = [ pkg-config ];
  buildInputs = [
    bzip2
    libxml2
    lz4
    mbedtls
    xz
    zlib
    zstd
  ];
  configureFlags = [
    # for the sums in archives of xar
    "--with-mbedtls"
    "--without-expat"
    "--without-nettle"
    "--without-openssl"
  ];
  enableParallelBuilding = true;
  # To compile the test suite takes longer than all the rest.

  passthru.programs =
    map
      (format: {
        setup = "seq 9999 > numbers; bsdtar --${format} -cf a.tar numbers";
        argv = [
          "bin/bsdtar"
          "-xOf"
          "a.tar"
        ];
      })
      [
        "gzip"
        "bzip2"
        "xz"
        "zstd"
        "lz4"
      ]
    ++ [
      {
        setup = "seq 9 > numbers; bsdtar --format=xar -cf a.xar numbers";
        argv = [
          "bin/bsdtar"
          "-xOf"
          "a.xar"
        ];
      }
      {
        setup = "seq 999 | gzip > numbers.gz";
        argv = [
          "bin/bsdcat"
          "numbers.gz"
        ];
      }
      {
        setup = "seq 9 > numbers; echo numbers | bsdcpio -o -H newc > a.cpio";
        argv = [
          "bin/bsdcpio"
          "-i"
          "-t"
          "-F"
          "a.cpio"
        ];
      }
    ];
}
