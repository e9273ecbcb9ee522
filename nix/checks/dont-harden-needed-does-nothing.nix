# An attribute that is set, whatever to, keeps the hook from touching the outputs: they are those of the plain build.
{ library, expect }:
let
  build =
    attributes:
    library {
      name = "a";
      hardened = true;
      inherit attributes;
    };
  untouched = build { dontHardenNeeded = true; };
  switchedBackOn = build { dontHardenNeeded = false; };
in
{
  works = expect "untouched" ''
    [[ $(tag SONAME ${untouched}/lib/liba.so.1) == liba.so.1 ]]
    tag NEEDED ${untouched}/lib/liba.so.1 | grep -Fx libc.so.6
  '';
  false-is-as-if-it-were-not-there = expect "hardened" ''
    [[ $(tag SONAME ${switchedBackOn}/lib/liba.so.1) == ${switchedBackOn}/lib/liba.so.1 ]]
  '';
}
