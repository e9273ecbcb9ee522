# The distribution of nix/distro before and after one constant of zlib became another, plain and with everything hardened; untested, as
# this is about bytes. The outputs of all packages, or of those that are `only` wanted.
{
  only ? null,
}:
let
  pkgs = import ../../nix/hostpkgs { };
  project = import ../../default.nix { inherit pkgs; };
  inherit (pkgs) lib;
  every = builtins.attrNames (builtins.readDir ../../nix/distro/packages);
  names = if only == null then every else only;
  untested = _: prev: lib.genAttrs every (name: prev.${name}.overrideAttrs { doCheck = false; });
  changed = _: prev: {
    zlib = prev.zlib.overrideAttrs {
      # how long deflate looks for a longer match at its default level
      postPatch = "sed -i 's/8,   16, 128, 128, deflate_slow/8,   16, 128, 127, deflate_slow/' deflate.c";
    };
  };
  built =
    pkgs: overlays:
    let
      packages = import ../../nix/distro {
        inherit pkgs;
        overlays = [ untested ] ++ overlays;
      };
    in
    lib.listToAttrs (
      lib.concatMap (
        name: map (output: lib.nameValuePair "${name}-${output}" packages.${name}.${output}) packages.${name}.outputs
      ) names
    );
in
lib.mapAttrs
  (_: packages: {
    before = built packages [ ];
    after = built packages [ changed ];
  })
  {
    plain = pkgs;
    hardened = pkgs.extend (project.lib.hardenEverything { });
  }
