# Nothing to harden is no failure, nor is an output that is made only after the fixup phase.
{ stdenv, nixHardenNeeded, expect }:
let
  data = stdenv.mkDerivation {
    name = "data";
    outputs = [
      "out"
      "late"
    ];
    dontUnpack = true;
    nativeBuildInputs = [ nixHardenNeeded ];
    installPhase = ''
      mkdir -p $out/lib
      echo 'INPUT(-lfoo)' > $out/lib/libscript.so
    '';
    doInstallCheck = true;
    installCheckPhase = "mkdir -p $late";
  };
in
{
  works = expect "data" ''
    [[ $(cat ${data}/lib/libscript.so) == 'INPUT(-lfoo)' ]]
  '';
}
