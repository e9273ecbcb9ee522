# Adds the program and the hook to a package set.
final: _prev: {
  nix-harden = final.callPackage ./package.nix { patchelf = final.callPackage ./patchelf.nix { }; };
  nixHardenNeeded = final.callPackage ./hook.nix { };
}
