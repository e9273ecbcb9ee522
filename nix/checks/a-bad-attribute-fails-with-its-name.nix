# A value that means nothing fails the build with a sentence that names the attribute.
{ library, fails }:
let
  build =
    attributes:
    library {
      name = "a";
      hardened = true;
      inherit attributes;
    };
in
{
  mode = fails (build { hardenNeededMode = "sonames"; }) [
    "hardenNeededMode"
    "'sonames' is no mode; use soname or needed"
  ];
  bind = fails (build { hardenNeededBind = [ "liba.so.1" ]; }) [
    "hardenNeededBind"
    "'liba.so.1' has not the form LIBRARY=/absolute/path"
  ];
  bind-outside-the-store = fails (build { hardenNeededBind = [ "liba.so.1=/usr/lib/liba.so.1" ]; }) [
    "hardenNeededBind"
    "/usr/lib/liba.so.1 is not in the store"
  ];
  strict = fails (build { hardenNeededStrict = "perhaps"; }) [ "hardenNeededStrict" ];
  keep-runpath = fails (build { hardenNeededKeepRunpath = "perhaps"; }) [ "hardenNeededKeepRunpath" ];
  reserve = fails (build { hardenNeededReserve = "much"; }) [
    "hardenNeededReserve"
    "'much' is not a number of bytes"
  ];
  prelink = fails (build { hardenNeededPrelink = "perhaps"; }) [ "hardenNeededPrelink" ];
  prelink-from = fails (build { hardenNeededPrelinkFrom = "few"; }) [
    "hardenNeededPrelinkFrom"
    "'few' is not a number of lookups"
  ];
  strict-as-a-list = fails (build {
    __structuredAttrs = true;
    hardenNeededStrict = [ "1" ];
  }) [ "hardenNeededStrict: a list or an attribute set is not one value" ];
  bind-as-a-set =
    fails
      (build {
        __structuredAttrs = true;
        hardenNeededBind = {
          "liba.so.1" = "/nix/store/liba.so.1";
        };
      })
      [ "hardenNeededBind: an attribute set is not a list" ];
}
