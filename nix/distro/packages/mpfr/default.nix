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
  # Some of 180 programs: to link and run all takes a minute and a half.
  doCheck = true;
  preCheck = ''
    tests="tversion tadd tsub tmul tdiv tsqrt texp tlog tsin tgamma tstrtofr tsprintf tget_d tset_str"
    checkFlagsArray+=("check_PROGRAMS=$tests" "TESTS=$tests")
  '';
}
