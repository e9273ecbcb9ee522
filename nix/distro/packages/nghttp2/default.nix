{
  stdenv,
  source,
  cmake,
  ninja,
}:

stdenv.mkDerivation {
  pname = "nghttp2";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  nativeBuildInputs = [
    cmake
    ninja
  ];
  # The test suite needs CUnit, the programs an event loop and a TLS library.
  cmakeFlags = [ "-DENABLE_LIB_ONLY=ON" ];
}
