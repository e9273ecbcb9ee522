# The overlay gives the hook to all that the stdenv of a set builds, by plain mkDerivation: the program searches for nothing.
# Other stdenvs that are made of it do the same, and so does one that takes its place in the set's configuration.
{
  pkgs,
  everything,
  harden,
  nixHardenNeeded,
  supportIn,
  expect,
  fails,
}:
let
  searchesNothing =
    support:
    let
      inherit (support.chain { }) liba libb program';
    in
    expect "everything" ''
      searches 0 ${program'}/bin/app
      prints 2 ${program'}/bin/app
      [[ $(tag SONAME ${liba}/lib/liba.so.1) == liba.so.1 ]]
      tag NEEDED ${libb}/lib/libb.so.1 | grep -Fx ${liba}/lib/liba.so.1
    '';
  withStdenv =
    stdenv: everything.callPackage ../check-support.nix { inherit nixHardenNeeded stdenv; };
in
{
  works = searchesNothing (supportIn everything);
  twice-is-as-once = searchesNothing (supportIn (everything.extend (harden.hardenEverything { })));
  another-compiler = searchesNothing (
    withStdenv (everything.stdenv.override { cc = everything.gcc; })
  );
  a-stdenv-alone = searchesNothing (
    pkgs.callPackage ../check-support.nix {
      inherit nixHardenNeeded;
      stdenv = harden.hardenStdenv pkgs;
    }
  );
  # as interpreters hand theirs on to their modules
  the-stdenv-of-a-package = searchesNothing (
    withStdenv ((supportIn everything).chain { }).liba.stdenv
  );
  without-it-names-are-searched-for = fails (searchesNothing (supportIn pkgs)) [
    "the loader searches for"
  ];
}
