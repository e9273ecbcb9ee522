{
  stdenv,
  source,
  gnum4,
}:

stdenv.mkDerivation {
  pname = "gmp";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  # Debian leaves out the manual.
  postPatch = ''
    mkdir -p doc
    printf '%%:\n\t@:\n' > doc/Makefile.in
  '';

  nativeBuildInputs = [ gnum4 ];
  configureFlags = [
    "--enable-cxx"
    # Not for whatever processor builds it
    "--build=x86_64-pc-linux-gnu"
  ];
  enableParallelBuilding = true;
  # All of it takes minutes, most of them in mpn and mpz.
  doCheck = true;
  preCheck = ''
    checkFlagsArray+=(-C tests "SUBDIRS=. misc cxx")
  '';
}
