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
  # Its configure script is its own, and refuses what it does not know.
  setOutputFlags = false;
  configurePlatforms = [ ];

  enableParallelBuilding = true;
  doCheck = true;

  postInstall = ''
    moveToOutput lib/libz.a "$static"
  '';
}
