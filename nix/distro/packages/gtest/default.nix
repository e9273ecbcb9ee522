{
  stdenv,
  source,
  cmake,
  ninja,
}:

stdenv.mkDerivation {
  pname = "gtest";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  # The hook for CMake gives the whole path.
  postPatch = ''
    substituteInPlace googletest/CMakeLists.txt googlemock/CMakeLists.txt \
      --replace-fail '$<INSTALL_PREFIX>/' ""
  '';

  nativeBuildInputs = [
    cmake
    ninja
  ];
  cmakeFlags = [ "-DBUILD_SHARED_LIBS=ON" ];

  # Its tests take longer to compile than all that use it.
  doCheck = false;
}
