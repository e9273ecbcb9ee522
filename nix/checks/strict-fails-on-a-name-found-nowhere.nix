# hardenNeededStrict turns warnings into a failed build; without it the name stays bare and the log says where it was looked for.
{
  library,
  expect,
  fails,
}:
let
  build =
    strict:
    library {
      name = "a";
      hardened = true;
      attributes = {
        hardenNeededStrict = strict;
        postFixup = "patchelf --add-needed libnowhere.so.7 $out/lib/liba.so.1.0";
      };
    };
in
{
  works = expect "not-strict" ''
    tag NEEDED ${build false}/lib/liba.so.1 | grep -Fx libnowhere.so.7
  '';
  strict-fails = fails (build true) [
    "libnowhere.so.7 stays bare: not found"
    "hardenNeededStrict is set"
  ];
}
