# The program and the hook, made of one package set and depending on nothing else.
pkgs:
let
  nix-harden = pkgs.callPackage ./package.nix { patchelf = pkgs.callPackage ./patchelf.nix { }; };
in
{
  inherit nix-harden;
  nixHardenNeeded = pkgs.callPackage ./hook.nix { inherit nix-harden; };
}
