# A file that begins as ELF and breaks the format is left as it is with a warning, or fails a strict build by name.
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
        postFixup = ''
          head -c 100 $out/lib/liba.so.1.0 > $out/lib/broken.so
        '';
      };
    };
in
{
  works = expect "malformed" ''
    [[ $(stat -c %s ${build false}/lib/broken.so) == 100 ]]
    [[ $(tag SONAME ${build false}/lib/liba.so.1) == ${build false}/lib/liba.so.1 ]]
  '';
  strict-fails = fails (build true) [ "lib/broken.so: malformed ELF" ];
}
