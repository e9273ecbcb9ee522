# The setup hook: `nativeBuildInputs = [ nixHardenNeeded ];` hardens a derivation.
{
  lib,
  callPackage,
  makeSetupHook,
  runCommand,
  nix-harden,
  # of derivations that say no hardenNeededMode themselves
  mode ? "soname",
}:
let
  # so that no derivation that is hardened waits for templates and terminals
  program = nix-harden.override { forPeople = false; };
in
makeSetupHook
  {
    name = "nix-harden-needed-hook";
    passthru = {
      inherit nix-harden;
      isNixHardenNeeded = true;
      # unharden drv: the same package with bare names.
      unharden = callPackage ./unharden.nix { inherit nix-harden; };
      # freezePrograms [ "bin/hello" ] drv: the same package, whose programs name all that they load; every program for null.
      freezePrograms = callPackage ./freeze.nix { nix-harden = program; };
      # audit { } drv: what an audit says of the package; auditSet joins many of these.
      audit = callPackage ./audit.nix { nix-harden = program; };
      auditSet = callPackage ./audit-set.nix { inherit nix-harden; };
      # split drv: the same package, whose programs lie in parts.
      split = callPackage ./split.nix { nix-harden = program; };
      # prelink drv: the same package, whose programs have no symbols looked up where that is worth it.
      prelink = callPackage ./prelink.nix { nix-harden = program; };
    };
    meta.description = "Setup hook that makes SONAME and NEEDED absolute store paths";
  }
  (
    runCommand "nix-harden-needed.sh" { } (
      ''
        ${nix-harden}/bin/nix-harden hook --program ${program}/bin/nix-harden > $out
      ''
      + lib.optionalString (mode != "soname") ''
        echo 'hardenNeededMode=''${hardenNeededMode-${mode}}' >> $out
      ''
    )
  )
