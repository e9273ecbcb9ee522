{
  stdenv,
  source,
  autoreconfHook,
}:

stdenv.mkDerivation {
  pname = "oniguruma";
  inherit (source) version;
  src = source;

  outputs = [
    "dev"
    "lib"
    "out"
  ];
  outputBin = "dev";

  nativeBuildInputs = [ autoreconfHook ];
  configureFlags = [ "--enable-posix-api=yes" ];
  enableParallelBuilding = true;
  doCheck = true;

  # nothing else would be in it
  postInstall = ''
    mkdir -p "$out"
  '';
}
