{ stdenv, source }:

stdenv.mkDerivation {
  pname = "zlib";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
    "static"
  ];
  setOutputFlags = false;

  enableParallelBuilding = true;
  doCheck = true;

  postInstall = ''
    moveToOutput lib/libz.a "$static"
  '';
}
