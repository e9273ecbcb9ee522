{
  stdenv,
  source,
  pkg-config,
  brotli,
  bzip2,
  libpng,
  zlib,
}:

stdenv.mkDerivation {
  pname = "freetype";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  nativeBuildInputs = [ pkg-config ];
  propagatedBuildInputs = [
    brotli
    bzip2
    libpng
    zlib
  ];
  configureFlags = [
    "--disable-static"
    # it needs this library itself
    "--without-harfbuzz"
  ];

  enableParallelBuilding = true;
}
