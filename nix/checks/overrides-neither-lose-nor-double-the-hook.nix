# In a hardened set each derivation has the hook once, whatever is overridden; attributes may refer to each other.
{
  lib,
  everything,
  harden,
  supportIn,
  expect,
}:
let
  inherit (everything) nixHardenNeeded;
  library =
    attributes:
    (supportIn everything).library {
      name = "a";
      inherit attributes;
    };
  hooks =
    number: drv:
    let
      found = lib.filter (input: input ? isNixHardenNeeded) (lib.flatten drv.nativeBuildInputs);
    in
    expect "hooks" "[[ ${toString (lib.length found)} == ${toString number} ]]";
  recursive = everything.stdenv.mkDerivation (final: {
    pname = "recursive-${final.passthru.kind}";
    version = "1";
    passthru.kind = "kind";
    dontUnpack = true;
    text = "${final.pname} ${toString (final.finalPackage ? hardenNeeded)}";
    installPhase = ''echo "$text" > $out'';
  });
in
{
  once = hooks 1 (library { });
  given-by-hand = hooks 1 (library { nativeBuildInputs = [ nixHardenNeeded ]; });
  given-in-a-list-in-a-list = hooks 1 (library { nativeBuildInputs = [ [ nixHardenNeeded ] ]; });
  other-inputs-in-its-place = hooks 1 ((library { }).overrideAttrs { nativeBuildInputs = [ ]; });
  inputs-added = hooks 1 (
    (library { }).overrideAttrs (old: {
      nativeBuildInputs = old.nativeBuildInputs ++ [ everything.patchelf ];
    })
  );
  overridden-twice = hooks 1 (
    ((library { }).overrideAttrs (_: { nativeBuildInputs = [ ]; })).overrideAttrs (
      _: _: { nativeBuildInputs = [ ]; }
    )
  );
  one-package-that-is-hardened-twice = hooks 1 (harden.hardenPackage (library { }));
  refused = hooks 0 (library { dontHardenNeeded = true; });
  attributes-that-refer-to-each-other = expect "recursive" ''
    grep -Fx "recursive-kind 1" ${recursive}
    grep -Fx "recursive-other 1" ${
      recursive.overrideAttrs (old: {
        passthru = old.passthru // {
          kind = "other";
        };
      })
    }
  '';
}
