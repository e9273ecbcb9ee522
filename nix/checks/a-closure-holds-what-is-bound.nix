# exportReferencesGraph, from which images and initrds are made, holds every library that a hardened program is bound to, and
# no store path that it holds not for a plain one. A reference that is removed is in it no more, and the program does not start.
{ chain, runCommand, expect }:
let
  hardened = chain {
    a = true;
    b = true;
    app = true;
  };
  plain = chain { };
  closureOf =
    program:
    runCommand "closure" { exportReferencesGraph = [ "graph" program ]; } ''
      grep "^$NIX_STORE/" graph | sort -u > $out
    '';
  hashOf = drv: builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext "${drv}"));
  # As nuke-refs and remove-references-to do it.
  removed = runCommand "app" { } ''
    cp -r ${hardened.program'} $out
    chmod -R u+w $out
    sed -i s/${hashOf hardened.libb}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee/g $out/bin/app
  '';
in
{
  works = expect "closure" ''
    grep -Fx ${hardened.liba} ${closureOf hardened.program'}
    grep -Fx ${hardened.libb} ${closureOf hardened.program'}
    names() {
      sed "s|^$NIX_STORE/[0-9a-z]*-||" "$1" | sort
    }
    diff <(names ${closureOf plain.program'}) <(names ${closureOf hardened.program'})
  '';
  a-removed-reference-ends-it = expect "removed" ''
    if grep -F -e ${hardened.liba} -e ${hardened.libb} ${closureOf removed}; then fail "still in the closure"; fi
    if ${removed}/bin/app 2> said; then fail "it starts"; fi
    grep -F "eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee-b/lib/libb.so.1: cannot open shared object file" said
  '';
}
