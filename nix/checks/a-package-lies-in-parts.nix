# split puts the programs of a finished package into parts, which start. Its dependencies stay the derivations that they are, and its
# wrappers, its other files and its meta what they were.
{
  harden,
  chain,
  program,
  library,
  withWrapper,
  expect,
  fails,
  same,
}:
let
  inherit (chain { }) liba libb program';
  parts = harden.split program';
  wrapped = program {
    name = "app";
    needs = [ libb ];
    attributes = withWrapper;
  };
  wrappedParts = harden.split wrapped;
  both = harden.split (harden.freeze program');
in
{
  works = expect "parts" ''
    prints 2 ${parts}/bin/app
    [[ -e ${parts}/bin/app.text && $(head -1 ${parts}/bin/app.needed) == libb.so.1 ]]
    [[ "$(cat ${parts}/bin/app.dynamic)" == *"RUNPATH "*${libb}/lib* ]]
    cp -r ${parts}/bin copy
    chmod -R u+w copy
    sed -i "s|^libb.so.1$|${libb}/lib/libb.so.1|" copy/app.needed
    prints 2 copy/app
  '';
  a-wrapper-starts-the-program-in-parts = expect "wrapped" ''
    prints 2 ${wrappedParts}/bin/app
    [[ -e ${wrappedParts}/bin/.app-wrapped.needed && ! -e ${wrappedParts}/bin/app.needed ]]
    [[ "$(head -c 2 ${wrappedParts}/bin/app)" == "#!" ]] || fail "the wrapper is gone"
    [[ "$(cat ${wrappedParts.man}/share/man/man1/app.1)" == ${wrappedParts}/bin/app ]]
    [[ ${wrappedParts.meta.mainProgram} == app ]]
  '';
  what-is-frozen-lies-in-parts = expect "frozen" ''
    prints 2 ${both}/bin/app
    grep -F ${liba}/lib/liba.so.1 ${both}/bin/app.needed
  '';
  nothing-is-built-again = expect "cached" "[[ ${parts.old_out} == ${program'} ]]";
  the-copy-is-made-of-the-plain-derivation = same parts.unsplit program';
  what-has-no-program-fails = fails (harden.split (library { name = "a"; })) [
    "has no program that starts from its parts"
  ];
}
