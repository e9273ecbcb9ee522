{
  stdenv,
  source,
  bzip2,
  xz,
  zlib,
}:

stdenv.mkDerivation {
  pname = "file";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  buildInputs = [
    bzip2
    xz
    zlib
  ];
  enableParallelBuilding = true;
  doCheck = true;

  passthru.programs = [
    {
      argv = [
        "bin/file"
        "-"
      ];
      stdin = "#!/bin/sh\necho\n";
    }
    {
      setup = "seq 99 | gzip -n > a.gz; seq 99 | bzip2 > a.bz2; seq 99 | xz > a.xz; cp /bin/true .";
      argv = [
        "bin/file"
        "--uncompress"
        "--mime"
        "a.gz"
        "a.bz2"
        "a.xz"
        "true"
      ];
    }
  ];
}
