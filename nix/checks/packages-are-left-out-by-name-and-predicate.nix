# What `except` names stays the derivation that it is in the plain set, and what links to it binds it all the same. A name is
# an attribute of the set, and means every package of the same pname.
{
  pkgs,
  harden,
  chainOverlay,
  expect,
  same,
  fails,
}:
let
  withChain = pkgs.extend chainOverlay;
  leaving = except: withChain.extend (harden.hardenEverything { inherit except; });
  aIsBare =
    set:
    expect "a-is-bare" ''
      tag NEEDED ${set.liba}/lib/liba.so.1 | grep -Fx libc.so.6
      tag NEEDED ${set.libb}/lib/libb.so.1 | grep -Fx ${set.liba}/lib/liba.so.1
      loads ${set.liba}/lib/liba.so.1 ${set.app}/bin/app
      prints 2 ${set.app}/bin/app
    '';
  byName = leaving [ "liba" ];
  byPredicate = leaving [ (attrs: attrs.pname == "a") ];
in
{
  by-name = aIsBare byName;
  by-predicate = same byName.app byPredicate.app;
  another-package-of-the-same-name = same (byName.liba.overrideAttrs { version = "2"; }) (
    withChain.liba.overrideAttrs { version = "2"; }
  );
  it-is-the-plain-package = same byName.liba withChain.liba;
  it-says-why = expect "reason" ''
    [[ "${byName.liba.hardenNeeded.reason}" == "except: the user asks for it" ]]
    [[ "${byName.libb.hardenNeeded.mode}" == needed ]]
  '';
  without-it-nothing-is-bare = fails (aIsBare (leaving [ ])) [ ];
}
