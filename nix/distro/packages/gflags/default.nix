{
  stdenv,
  source,
  cmake,
  ninja,
}:

stdenv.mkDerivation {
  pname = "gflags";
  inherit (source) version;
  src = source;

  nativeBuildInputs = [
    cmake
    ninja
  ];
  cmakeFlags = [ "-DBUILD_SHARED_LIBS=ON" ];

  doCheck = true;
}
