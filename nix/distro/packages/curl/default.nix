{
  stdenv,
  source,
  brotli,
  mbedtls,
  nghttp2,
  pkg-config,
  zlib,
  zstd,
}:

stdenv.mkDerivation {
  pname = "curl";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  nativeBuildInputs = [ pkg-config ];
  propagatedBuildInputs = [
    brotli
    mbedtls
    nghttp2
    zlib
    zstd
  ];
  configureFlags = [
    "--enable-versioned-symbols"
    "--with-mbedtls"
    "--with-brotli"
    "--with-zstd"
    "--without-ca-bundle"
    "--without-libpsl"
    "--disable-ldap"
    "--disable-manual"
  ];
  enableParallelBuilding = true;
  # The test suite starts servers for some 1500 cases: minutes.

  postInstall = ''
    moveToOutput bin/curl-config "$dev"
  '';

  passthru.programs = [
    {
      setup = "seq 9 > numbers";
      argv = [
        "bin/curl"
        "--silent"
        "--range"
        "2-9"
        "file:///proc/self/cwd/numbers"
      ];
    }
    {
      argv = [
        "bin/curl"
        "--version"
      ];
    }
  ];
}
