{
  pkgs ? import <nixpkgs> { },
}:
let
  inherit (import ./nix/packages.nix pkgs) nix-harden nixHardenNeeded;
  lib = import ./nix/harden.nix {
    inherit (pkgs) lib;
    hookFor = _: (import ./nix/packages.nix pkgs.buildPackages).nixHardenNeeded;
  };
in
{
  inherit nix-harden nixHardenNeeded lib;
  overlay = import ./nix/overlay.nix;
  overlayEverything = lib.hardenEverything { };
  nixosModule = import ./nix/module.nix lib;
  checks = import ./nix/checks.nix {
    inherit pkgs nix-harden nixHardenNeeded;
    harden = lib;
  };
}
