# prelink gives the programs of a finished package modules. Its dependencies stay the derivations that they are, and its wrappers, its
# other files and its meta what they were.
{
  pkgs,
  lib,
  harden,
  wide,
  chain,
  supportIn,
  withWrapper,
  moduleOf,
  expect,
  fails,
  same,
}:
let
  inherit (wide) libwide;
  plain = wide.programOf { };
  prelinked = harden.prelink plain;
  wrapped = wide.programOf withWrapper;
  prelinkedWrapped = harden.prelink wrapped;
  overlay = final: _: { app = (supportIn final).wide.programOf { }; };
  set = (pkgs.extend overlay).extend (harden.prelinkPackages [ "app" ]);
  # as NixOS applies what its module sets
  setOf =
    hardenNeeded:
    lib.foldl' (set: set.extend) (pkgs.extend overlay)
      (moduleOf harden { } (throw "pkgs") hardenNeeded).nixpkgs.overlays;
  hardenedToo = setOf {
    enable = true;
    mode = "needed";
    prelink = [ "app" ];
  };
in
{
  works = expect "prelinked" ''
    unhelped ${plain}/bin/app
    prelinked ${prelinked}/bin/app
    prints 3000 ${prelinked}/bin/app
    searches 0 ${prelinked}/bin/app
    [[ $(tag NEEDED ${prelinked}/bin/app) == "$(tag NEEDED ${plain}/bin/app)" ]] || fail "its names are others"
  '';
  a-wrapper-starts-the-prelinked-program = expect "wrapped" ''
    prints 3000 ${prelinkedWrapped}/bin/app
    prelinked ${prelinkedWrapped}/bin/.app-wrapped
    [[ "$(head -c 2 ${prelinkedWrapped}/bin/app)" == "#!" ]] || fail "the wrapper is gone"
    if grep -rF ${wrapped} ${prelinkedWrapped} ${prelinkedWrapped.man}; then
      fail "the copy refers to what it was copied from"
    fi
    [[ "$(cat ${prelinkedWrapped.man}/share/man/man1/app.1)" == ${prelinkedWrapped}/bin/app ]]
    [[ ${prelinkedWrapped.meta.mainProgram} == app ]]
  '';
  nothing-is-built-again = expect "cached" ''
    [[ ${prelinked.old_out} == ${plain} ]] || fail "the program was built again"
    loads ${libwide}/lib/libwide.so.1 ${prelinked}/bin/app
    [[ "${toString prelinked.outputs} ${toString prelinkedWrapped.outputs}" == "out out man" ]]
  '';
  the-copy-is-made-of-the-plain-derivation = same prelinked.unprelinked plain;
  a-chosen-part-of-a-set = expect "part" "prelinked ${set.app}/bin/app";
  a-set-that-is-switched-off = same (set.extend (_: _: { dontHardenNeeded = true; })).app plain;
  what-the-module-names = same (setOf { prelink = [ "app" ]; }).app set.app;
  where-the-module-hardens-too = expect "hardened" ''
    [[ ${hardenedToo.app.unprelinked.hardenNeeded.mode} == needed ]]
    prelinked ${hardenedToo.app}/bin/app
    prints 3000 ${hardenedToo.app}/bin/app
  '';
  what-the-module-does-not-name = same (setOf { }).app plain;
  where-nothing-gains-enough-it-fails = fails (harden.prelink (chain { }).program') [
    "bin/app (too little to gain: "
    "app has no program to prelink"
  ];
}
