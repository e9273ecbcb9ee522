{
  stdenv,
  source,
  cmake,
  ninja,
  gflags,
  gtest,
}:

stdenv.mkDerivation {
  pname = "glog";
  inherit (source) version;
  src = source;

  nativeBuildInputs = [
    cmake
    ninja
  ];
  buildInputs = [ gtest ];
  # found by gflags-config.cmake, here and by all that use glog
  propagatedBuildInputs = [ gflags ];

  doCheck = true;
}
