{
  pkgs ? import <nixpkgs> { },
}:
let
  nix-harden = pkgs.callPackage ./nix/package.nix { patchelf = pkgs.callPackage ./nix/patchelf.nix { }; };
  nixHardenNeeded = pkgs.callPackage ./nix/hook.nix { inherit nix-harden; };
in
{
  inherit nix-harden nixHardenNeeded;
  overlay = import ./nix/overlay.nix;
  checks = import ./nix/checks.nix { inherit pkgs nix-harden nixHardenNeeded; };
}
