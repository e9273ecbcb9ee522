# The distribution of nix/distro in four builds: plain, everything hardened, and each half of it hardened alone.
{
  # the packages that the halves harden
  first ? [ ],
  second ? [ ],
}:
let
  pkgs = import ../../nix/hostpkgs { };
  project = import ../../default.nix { inherit pkgs; };
  inherit (pkgs) lib;
  plain = import ../../nix/distro { inherit pkgs; };
  builds = {
    inherit plain;
    hardened = with_ { };
    first = with_ (alone first);
    second = with_ (alone second);
  };
  with_ = options: import ../../nix/distro { pkgs = pkgs.extend (project.lib.hardenEverything options); };
  alone =
    names:
    let
      chosen = map (name: plain.${name}.pname) names;
    in
    {
      # as a chosen part of a set has it
      mode = "soname";
      except = [ (attrs: !lib.elem attrs.pname chosen) ];
    };
  described = package: {
    inherit (package) drvPath;
    outputs = lib.genAttrs package.outputs (output: package.${output}.outPath);
  };
in
lib.mapAttrs (name: package: {
  programs = package.programs or [ ];
  tested = package.doCheck or false;
  builds = lib.mapAttrs (_: packages: described packages.${name}) builds;
}) plain
