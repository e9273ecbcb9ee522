{
  stdenv,
  source,
  gmp,
}:

stdenv.mkDerivation {
  pname = "mpfr";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  propagatedBuildInputs = [ gmp ];
  enableParallelBuilding = true;
  doCheck = true;
}
