# A finished package whose programs lie in parts: copies of its outputs in which the parts of each program are beside what starts it, under
# the program's name. Its dependencies stay what they are, so nothing is built again.
{ callPackage, nix-harden }:
drv:
callPackage ./edited.nix { } drv {
  passthru.unsplit = drv;
  commands = ''
    found=
    shopt -s dotglob
    # all are known before a part could be taken for one
    mapfile -d "" -t all < <(programs)
    for program in "''${all[@]}"; do
      aside=$(mktemp -d)/parts
      ${nix-harden}/bin/nix-harden split "$program" -o "$aside"
      # what cannot start from its parts, which the log has, is what it was
      [[ -e $aside/''${program##*/} ]] || continue
      rm "$program"
      for part in "$aside"/*; do
        target=''${program%/*}/''${part##*/}
        if [[ -e $target ]]; then
          echo "$target is there, and would be a part of ''${program##*/}" >&2
          exit 1
        fi
        mv "$part" "$target"
      done
      found=1
    done
    if [[ -z $found ]]; then
      echo "${drv.name} has no program that starts from its parts: use the package itself" >&2
      exit 1
    fi
  '';
}
