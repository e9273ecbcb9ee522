{
  stdenv,
  source,
  cmake,
  ninja,
  gtest,
  snappy,
}:

stdenv.mkDerivation {
  pname = "leveldb";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
    "bin"
  ];

  # The release lacks the copies of googletest and benchmark that it wants to
  # build, and does not install its program.
  postPatch = ''
    substituteInPlace CMakeLists.txt \
      --replace-fail 'add_subdirectory("third_party/googletest")' 'find_package(GTest CONFIG REQUIRED)' \
      --replace-fail 'add_subdirectory("third_party/benchmark")' "" \
      --replace-fail 'leveldb gmock gtest benchmark' 'leveldb gmock gtest' \
      --replace-fail 'leveldb gmock gtest' 'leveldb GTest::gmock GTest::gtest' \
      --replace-fail 'install(TARGETS leveldb' 'install(TARGETS leveldb leveldbutil'
  '';

  nativeBuildInputs = [
    cmake
    ninja
  ];
  buildInputs = [
    gtest
    snappy
  ];
  cmakeFlags = [
    "-DBUILD_SHARED_LIBS=ON"
    "-DLEVELDB_BUILD_BENCHMARKS=OFF"
    # a flag for compiling googletest
    "-DLEVELDB_HAVE_NO_MISSING_FIELD_INITIALIZERS=OFF"
  ];

  doCheck = true;

  # A table of twenty keys, compressed by snappy
  passthru.programs = [
    {
      argv = [
        "bin/leveldbutil"
        "dump"
        "000005.ldb"
      ];
      setup = "base64 --decode > 000005.ldb <<< 0hEkAAxka2V5MAEBAAUBAGH+AQCKAQAUAwlkMQECBW8EAGL+AQCKAQAUBAlkMAELCXAAa/4BAIoBAAAEAeAADAlwAGz+AQCKAQAUBAlkMgENCXAAbf4BAIoBABQECWQzAQ4JcABu/gEAigEAFAQJZDQBDwlwAG/+AQCKAQAUBAlkNQEQCXAAcP4BAIoBABQECWQ2AREJcABx/gEAigEAFAQJZDcBEglwAHL+AQCKAQAUBAlkOAETCXAAc/4BAIoBABQECWQ5ARQJcAB0/gEAigEAAANhgAADCXAAY/4BAIoBAAADYYAABAlwAGT+AQCKAQAAA2GAAAUJcABl/gEAigEAAANhgAAGCXAAZv4BAIoBAOkDCDYBBwlzAGf+AQCKAQAAA2GDAAgJcABo/gEAigEAAANhgwAJCXAAaf4BAIoBAAADYYMACglwAGr+AQCKAQAsAAAAAAMHAAACAAAAAXwcaAEAAAAAAQAAAADA8qGwAAkDbAH/////////AN8CAAAAAAEAAAAAicBf0OQCCPECFwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABX+4CLJHVH2w==";
    }
  ];
}
