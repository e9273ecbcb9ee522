# What `nix-harden audit` says of a finished package, as JSON and as SARIF; nothing is built again. Hashes of store paths are cut to eight
# characters, so that the result refers to nothing, and its closure is itself. With `failOn`, a list of checks as --fail-on has them, what
# they find fails the build.
{
  lib,
  runCommand,
  nix-harden,
}:
{
  failOn ? null,
}:
drv:
runCommand "${drv.name}-audit"
  {
    outputsOf = map (name: drv.${name}) (drv.outputs or [ "out" ]);
    passthru.audited = drv;
  }
  ''
    mkdir "$out"
    status=0
    ${nix-harden}/bin/nix-harden audit --symbols --into "$out" ${
      lib.optionalString (failOn != null) "--fail-on ${lib.escapeShellArg (lib.concatStringsSep "," failOn)}"
    } $outputsOf || status=$?
    # 1 is findings, which fail nothing where nobody asked for it
    if ((status > ${if failOn == null then "1" else "0"})); then
      exit "$status"
    fi
    sed -Ei "s|($NIX_STORE/[0-9a-z]{8})[0-9a-z]{24}-|\1-|g" "$out"/audit.*
  ''
