{
  stdenv,
  source,
  cmake,
  ninja,
}:

stdenv.mkDerivation {
  pname = "expat";
  inherit (source) version;
  src = source;
  sourceRoot = "libexpat-R_2_5_0/expat";

  outputs = [
    "out"
    "dev"
  ];
  outputBin = "dev";

  nativeBuildInputs = [
    cmake
    ninja
  ];
  # its manual would be made by docbook's tools
  cmakeFlags = [ "-DEXPAT_BUILD_DOCS=OFF" ];
  doCheck = true;

  passthru.programs = [
    {
      # It writes to a file of the input's name in another directory.
      setup = "echo '<a><b c=\"1\">&lt;</b></a>' > stdout";
      argv = [
        "bin/xmlwf"
        "-c"
        "-d"
        "/dev"
        "stdout"
      ];
    }
  ];
}
