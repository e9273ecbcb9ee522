{
  stdenv,
  source,
  cmake,
}:

stdenv.mkDerivation {
  pname = "libyaml";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];

  nativeBuildInputs = [ cmake ];
  cmakeFlags = [ "-DBUILD_SHARED_LIBS=ON" ];

  doCheck = true;
}
