{
  stdenv,
  source,
  cmake,
  ninja,
  gtest,
}:

stdenv.mkDerivation {
  pname = "snappy";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  # The release lacks the copy of googletest that it wants to build.
  postPatch = ''
    substituteInPlace CMakeLists.txt \
      --replace-fail 'add_subdirectory("third_party/googletest")' 'find_package(GTest CONFIG REQUIRED)' \
      --replace-fail 'gmock_main gtest' 'GTest::gmock_main GTest::gtest'
    # what gcc does not inline otherwise
    substituteInPlace snappy.cc --replace-fail \
      'size_t AdvanceToNextTag(const uint8_t** ip_p' 'inline size_t AdvanceToNextTag(const uint8_t** ip_p'
  '';

  nativeBuildInputs = [
    cmake
    ninja
  ];
  buildInputs = [ gtest ];
  cmakeFlags = [
    "-DBUILD_SHARED_LIBS=ON"
    "-DSNAPPY_BUILD_BENCHMARKS=OFF"
    # a flag for compiling googletest
    "-DSNAPPY_HAVE_NO_MISSING_FIELD_INITIALIZERS=OFF"
  ];

  doCheck = true;
}
