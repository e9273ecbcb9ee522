# The hook reads its attributes and inputs the same with __structuredAttrs and strictDeps as without: lists, false, names with spaces.
{ library, program, lib, expect }:
let
  liba = library { name = "a"; };
  build =
    attributes:
    program {
      name = "user";
      needs = [ liba ];
      hardened = true;
      inherit attributes;
    };
  variants = lib.genAttrs [ "neither" "structured" "strict" "both" ] (name: {
    __structuredAttrs = name == "structured" || name == "both";
    strictDeps = name == "strict" || name == "both";
  });
in
lib.mapAttrs (
  name: attributes:
  expect name ''
    searches 0 ${build attributes}/bin/user
    prints 1 ${build attributes}/bin/user
    excluded=${
      build (
        attributes
        // {
          hardenNeededExclude = [
            "libc.so.*"
            "liba.*"
          ];
          hardenNeededStrict = false;
        }
      )
    }
    [[ $(tag NEEDED $excluded/bin/user | tr '\n' ' ') == "liba.so.1 libc.so.6 " ]]
    prints 1 $excluded/bin/user
  ''
) variants
// {
  a-name-with-a-space = expect "space" ''
    spaced=${
      build {
        __structuredAttrs = true;
        hardenNeededExclude = [ "bin/my user" ];
        postFixup = ''cp "$out/bin/user" "$out/bin/my user"'';
      }
    }
    tag NEEDED "$spaced/bin/my user" | grep -Fx liba.so.1
    tag NEEDED "$spaced/bin/user" | grep -Fx ${liba}/lib/liba.so.1
  '';
}
