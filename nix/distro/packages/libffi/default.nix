{ stdenv, source }:

stdenv.mkDerivation {
  pname = "libffi";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  configureFlags = [
    "--disable-multi-os-directory"
    "--disable-exec-static-tramp"
  ];
  enableParallelBuilding = true;
  # The test suite is for DejaGnu.
}
