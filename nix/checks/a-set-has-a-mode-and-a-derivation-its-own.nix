# The mode of a set, `needed` unless it says another, holds for each derivation that does not say its own.
{
  pkgs,
  harden,
  supportIn,
  expect,
}:
let
  needed = supportIn (pkgs.extend (harden.hardenEverything { }));
  a =
    attributes:
    needed.library {
      name = "a";
      inherit attributes;
    };
  hasSoname = drv: soname: ''
    [[ $(tag SONAME ${drv}/lib/liba.so.1) == ${soname} ]]
    tag NEEDED ${drv}/lib/liba.so.1 | grep -q '^/nix/store/.*/libc.so.6$'
  '';
  own = a { hardenNeededMode = "soname"; };
  structured = a { __structuredAttrs = true; };
in
{
  works = expect "mode" (hasSoname (a { }) "liba.so.1");
  with-structured-attributes = expect "mode" (hasSoname structured "liba.so.1");
  a-derivation-says-its-own = expect "mode" (hasSoname own "${own}/lib/liba.so.1");
  it-is-said-of-each = expect "mode" ''
    [[ "${(a { }).hardenNeeded.mode} ${own.hardenNeeded.mode}" == "needed soname" ]]
  '';
}
