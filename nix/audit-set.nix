# The audits of a package set, one derivation a package, and one that joins them: index.html, set.json and set.csv. `audits`
# are by the names of the packages, `unknown` the names of those that cannot be evaluated, and `before` is the result for another state of the
# set, or null.
{
  lib,
  runCommand,
  nix-harden,
}:
{
  audits,
  unknown,
  before,
}:
runCommand "audit-set"
  {
    list = lib.concatStrings (
      lib.mapAttrsToList (name: audit: "${name}\t${audit}\n") audits ++ map (name: "${name}\n") unknown
    );
    passAsFile = [ "list" ];
    passthru = {
      inherit audits unknown;
    };
    allowedReferences = [ ];
  }
  ''
    set -o pipefail
    mkdir "$out"
    ${nix-harden}/bin/nix-harden audit-set "$listPath" ${
      lib.optionalString (before != null) "--before ${before}/set.json"
    } -o "$out/index.html" --csv "$out/set.csv" --json 2>&1 > "$out/set.json" | cat
  ''
