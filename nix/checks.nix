# Every file of nix/checks is a rule whose name says which, and gives its cases: derivations that build where the rule holds.
# The result is flat: `rule--case`.
{
  pkgs,
  nix-harden,
  nixHardenNeeded,
  harden,
}:
let
  inherit (pkgs) lib;
  supportIn = set: set.callPackage ./check-support.nix { inherit nixHardenNeeded; };
  # once for all: nixpkgs takes its time to be evaluated
  everything = pkgs.extend (harden.hardenEverything { });
  scope =
    pkgs
    // {
      inherit
        pkgs
        everything
        harden
        nix-harden
        nixHardenNeeded
        supportIn
        ;
    }
    // supportIn pkgs;
  casesOf =
    file:
    let
      rule = import (./checks + "/${file}");
    in
    rule (builtins.intersectAttrs (builtins.functionArgs rule) scope);
in
builtins.listToAttrs (
  lib.concatMap (
    file:
    lib.mapAttrsToList (case: value: {
      name = "${lib.removeSuffix ".nix" file}--${case}";
      inherit value;
    }) (casesOf file)
  ) (builtins.attrNames (builtins.readDir ./checks))
)
