# freeze binds the programs of a finished package to all that they load. Its libraries stay the derivations that they are, and its
# wrappers, its other files and its meta what they were.
{
  pkgs,
  lib,
  harden,
  chain,
  chainOverlay,
  program,
  library,
  withWrapper,
  expect,
  fails,
  same,
}:
let
  inherit (chain { }) liba libb program';
  frozen = harden.freeze program';
  wrapped = program {
    name = "app";
    needs = [ libb ];
    attributes = withWrapper;
  };
  frozenWrapped = harden.freezePrograms wrapped [ "bin/app" ];
  set = (pkgs.extend chainOverlay).extend (harden.freezePackages [ "app" ]);
  lost = program {
    name = "app";
    needs = [ (library { name = "a"; }) ];
    # the search path is gone, so that the library is found nowhere
    attributes.postFixup = "patchelf --remove-rpath $out/bin/app";
  };
in
{
  works = expect "frozen" ''
    searches 3 ${program'}/bin/app
    searches 0 ${frozen}/bin/app
    prints 2 ${frozen}/bin/app
    loads ${liba}/lib/liba.so.1 ${frozen}/bin/app
    [[ $(tag NEEDED ${libb}/lib/libb.so.1 | head -1) == liba.so.1 ]] || fail "a library is another"
  '';
  a-wrapper-starts-the-frozen-program = expect "wrapped" ''
    prints 2 ${frozenWrapped}/bin/app
    searches 0 ${frozenWrapped}/bin/.app-wrapped
    [[ "$(head -c 2 ${frozenWrapped}/bin/app)" == "#!" ]] || fail "the wrapper is gone"
    grep -F 'from\ ${frozenWrapped}' ${frozenWrapped}/bin/app
    if grep -rF ${wrapped} ${frozenWrapped} ${frozenWrapped.man}; then
      fail "the copy refers to what it was copied from"
    fi
    [[ "$(cat ${frozenWrapped.man}/share/man/man1/app.1)" == ${frozenWrapped}/bin/app ]]
    [[ ${frozenWrapped.meta.mainProgram} == app ]]
  '';
  a-chosen-part-of-a-set = expect "part" ''
    searches 0 ${set.app}/bin/app
    [[ ${toString (lib.isDerivation set.app.unfrozen)} == 1 ]]
  '';
  nothing-is-built-again = expect "cached" ''
    [[ ${frozen.old_out} == ${program'} ]] || fail "the program was built again"
    loads ${libb}/lib/libb.so.1 ${frozen}/bin/app
    [[ "${toString frozen.outputs} ${toString frozenWrapped.outputs}" == "out out man" ]]
  '';
  the-copy-is-made-of-the-plain-derivation = same frozen.unfrozen program';
  nothing-else-of-the-set-changes = same set.libb (pkgs.extend chainOverlay).libb;
  a-program-that-is-not-there-fails = fails (harden.freezePrograms program' [ "bin/nonsense" ]) [
    "app has no bin/nonsense"
  ];
  a-missing-library-fails-with-its-name = fails (harden.freeze lost) [ "liba.so.1" ];
}
