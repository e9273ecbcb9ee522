{
  stdenv,
  source,
  bzip2,
  curl,
  gnum4,
  pkg-config,
  xz,
  zlib,
  zstd,
}:

stdenv.mkDerivation {
  pname = "elfutils";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  nativeBuildInputs = [
    gnum4
    pkg-config
  ];
  propagatedBuildInputs = [
    bzip2
    xz
    zlib
    zstd
  ];
  buildInputs = [ curl ];
  configureFlags = [
    "--program-prefix=eu-"
    "--enable-deterministic-archives"
    "--enable-libdebuginfod"
    "--disable-debuginfod"
  ];
  # Its own warnings about a newer curl are errors.
  env.NIX_CFLAGS_COMPILE = "-Wno-error=deprecated-declarations";
  enableParallelBuilding = true;
  # The test suite takes minutes, and programs with debugging information as
  # this toolchain does not make it.

  # libdw calls dlopen("libdebuginfod.so.1"), if there may be a server.
  passthru.programs = [
    {
      setup = "cp /bin/true .";
      argv = [
        "bin/eu-readelf"
        "--file-header"
        "--dynamic"
        "true"
      ];
    }
    {
      setup = "cp /bin/true .";
      argv = [
        "bin/eu-size"
        "--format=sysv"
        "true"
      ];
    }
    {
      setup = "cp /bin/true .";
      argv = [
        "bin/eu-addr2line"
        "--exe=true"
        "--functions"
        "0x2000"
      ];
      env.DEBUGINFOD_URLS = "file:///nowhere";
    }
  ];
}
