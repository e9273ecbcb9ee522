{ stdenv, source }:

stdenv.mkDerivation {
  pname = "popt";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  enableParallelBuilding = true;
  doCheck = true;
}
