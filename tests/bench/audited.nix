# A generated set of small packages, and its audit: one program each, of one library.
{
  count,
  # what makes them others than those of another run
  salt ? "",
}:
let
  pkgs = import ../../nix/hostpkgs { };
  project = import ../../default.nix { inherit pkgs; };
  inherit (pkgs) lib;
  package =
    number:
    pkgs.runCommandCC "small-${toString number}" { } ''
      mkdir -p $out/bin
      echo 'int main(void) { return ${toString number}; } /* ${salt} */' | $CC -O1 -x c - -o $out/bin/small-${toString number}
    '';
in
project.lib.auditSet {
  set = lib.listToAttrs (
    map (number: lib.nameValuePair "small-${toString number}" (package number)) (lib.range 1 count)
  );
}
