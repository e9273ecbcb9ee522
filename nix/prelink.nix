# A finished package whose programs have nothing looked up: copies of its outputs in which each program that has enough to gain names
# a module of its loader. Its dependencies stay what they are, so nothing is built again.
{ callPackage, nix-harden }:
drv:
callPackage ./edited.nix { } drv {
  passthru.unprelinked = drv;
  commands = ''
    status=0
    ${nix-harden}/bin/nix-harden prelink-outputs "''${places[@]}" || status=$?
    # 1: a program that cannot be, which the log has, is what it was
    ((status <= 1)) || exit "$status"
    found=
    for place in "''${places[@]}"; do
      [[ ! -d $place/nix-support/prelink ]] || found=1
    done
    if [[ -z $found ]]; then
      echo "${drv.name} has no program to prelink: use the package itself" >&2
      exit 1
    fi
  '';
}
