# A distribution of real packages, over any package set in the shape of nixpkgs:
# see README.md.
{
  pkgs,
  # over these packages alone: final: prev: { zlib = …; }
  overlays ? [ ],
}:
let
  inherit (pkgs) lib;
  names = builtins.attrNames (builtins.readDir ./packages);
  debianSource = import ./debian-source.nix { inherit (pkgs.stdenv.hostPlatform) system; };

  # The packages take each other from the set first, and tools from `pkgs`.
  packages =
    final:
    pkgs
    // {
      callPackage = lib.callPackageWith final;
    }
    // lib.genAttrs names (
      name:
      final.callPackage (./packages + "/${name}") {
        source = debianSource (./packages + "/${name}/source.json");
      }
    );
in
lib.genAttrs names (
  name: (lib.fix (lib.foldl' (f: overlay: lib.extends overlay f) packages overlays)).${name}
)
