# An output may be a symbolic link to another package: that one is not this derivation's to write.
{
  library,
  stdenv,
  nixHardenNeeded,
  expect,
}:
let
  other = library { name = "a"; };
  linking = stdenv.mkDerivation {
    name = "linking";
    outputs = [
      "out"
      "alias"
    ];
    dontUnpack = true;
    nativeBuildInputs = [ nixHardenNeeded ];
    installPhase = ''
      mkdir -p $out
      ln -s ${other} $alias
    '';
  };
in
{
  works = expect "linked" ''
    [[ $(readlink ${linking.alias}) == ${other} ]]
    [[ $(tag SONAME ${other}/lib/liba.so.1) == liba.so.1 ]]
    tag NEEDED ${other}/lib/liba.so.1 | grep -Fx libc.so.6
  '';
}
