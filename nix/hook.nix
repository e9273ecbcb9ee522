# The setup hook: `nativeBuildInputs = [ nixHardenNeeded ];` hardens a derivation.
{
  callPackage,
  makeSetupHook,
  runCommand,
  nix-harden,
}:
makeSetupHook
  {
    name = "nix-harden-needed-hook";
    passthru = {
      inherit nix-harden;
      # unharden drv: the same package with bare names.
      unharden = callPackage ./unharden.nix { inherit nix-harden; };
    };
    meta.description = "Setup hook that makes SONAME and NEEDED absolute store paths";
  }
  (
    runCommand "nix-harden-needed.sh" { } ''
      ${nix-harden}/bin/nix-harden hook --program ${nix-harden}/bin/nix-harden > $out
    ''
  )
