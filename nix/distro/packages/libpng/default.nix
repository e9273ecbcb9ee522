{
  stdenv,
  source,
  zlib,
}:

stdenv.mkDerivation {
  pname = "libpng";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];
  outputBin = "dev";

  propagatedBuildInputs = [ zlib ];

  enableParallelBuilding = true;
  doCheck = true;
}
