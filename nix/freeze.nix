# A finished package whose programs search for nothing: copies of its outputs in which the programs name every library of their
# closure by path. Its dependencies stay what they are, so nothing is built again. `programs` are paths within the outputs, of
# programs or of wrappers that start them; null means every program of bin, sbin and libexec.
{
  lib,
  callPackage,
  nix-harden,
}:
programs: drv:
let
  named = ''
    for program in ${lib.escapeShellArgs programs}; do
      found=
      for place in "''${places[@]}"; do
        if [[ -e $place/$program ]]; then
          found=1
          freeze "$place/$program"
        fi
      done
      if [[ -z $found ]]; then
        echo "${drv.name} has no $program" >&2
        exit 1
      fi
    done
  '';
  every = ''
    while IFS= read -r -d "" program; do
      freeze "$program"
    done < <(programs)
  '';
in
callPackage ./edited.nix { } drv {
  passthru.unfrozen = drv;
  commands = ''
    freeze() {
      ${nix-harden}/bin/nix-harden freeze --in-place "$1"
    }
    ${if programs == null then every else named}
  '';
}
