{
  stdenv,
  source,
  mpfr,
}:

stdenv.mkDerivation {
  pname = "libmpc";
  inherit (source) version;
  src = source;

  propagatedBuildInputs = [ mpfr ];
  enableParallelBuilding = true;
  doCheck = true;
}
