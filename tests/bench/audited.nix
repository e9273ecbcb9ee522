# A generated set of small packages, and its audit: one program each, of one library.
{ count }:
let
  pkgs = import ../../nix/hostpkgs { };
  project = import ../../default.nix { inherit pkgs; };
  inherit (pkgs) lib;
  package =
    number:
    pkgs.runCommandCC "small-${toString number}" { } ''
      mkdir -p $out/bin
      echo 'int main(void) { return ${toString number}; }' | $CC -O1 -x c - -o $out/bin/small-${toString number}
    '';
in
project.lib.auditSet {
  set = lib.listToAttrs (
    map (number: lib.nameValuePair "small-${toString number}" (package number)) (lib.range 1 count)
  );
}
