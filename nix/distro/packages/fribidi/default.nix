{
  stdenv,
  source,
  buildPackages,
  meson,
  ninja,
}:

stdenv.mkDerivation {
  pname = "fribidi";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];
  outputBin = "out";

  nativeBuildInputs = [
    buildPackages.python3
    meson
    ninja
  ];
  mesonFlags = [ "-Ddocs=false" ];

  doCheck = true;
  preCheck = ''
    patchShebangs ../test
  '';

  passthru.programs = [
    {
      argv = [ "bin/fribidi" ];
      stdin = ''
        one שתיים three
        אחת two שלוש
      '';
    }
  ];
}
