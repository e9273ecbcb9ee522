# Every file of nix/checks is a rule, and its name says which: an attribute set of derivations that build where it holds.
{
  pkgs,
  nix-harden,
  nixHardenNeeded,
}:
let
  support = pkgs.callPackage ./check-support.nix { inherit nixHardenNeeded; };
  rule = file: pkgs.lib.removeSuffix ".nix" file;
  arguments = support // {
    inherit nix-harden nixHardenNeeded;
  };
in
builtins.listToAttrs (
  map (file: {
    name = rule file;
    value = pkgs.callPackage (./checks + "/${file}") (
      builtins.intersectAttrs (builtins.functionArgs (import (./checks + "/${file}"))) arguments
    );
  }) (builtins.attrNames (builtins.readDir ./checks))
)
