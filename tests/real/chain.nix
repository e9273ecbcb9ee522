# liba → libb → app, built by real Nix, with the hook and without.
{
  pkgs ? import ../../nix/hostpkgs { },
}:
let
  inherit (import ../.. { inherit pkgs; }) nixHardenNeeded;
  support = pkgs.callPackage ../../nix/check-support.nix { inherit nixHardenNeeded; };
in
{
  without = (support.chain { }).program';
  hardened =
    (support.chain {
      a = true;
      b = true;
      app = true;
    }).program';
}
