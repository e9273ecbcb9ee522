# An absolute SONAME is a reference of a library to itself. Where an output may have none, and where it must not refer to what a
# name would be bound to, the hook says so with file, name and attribute before Nix does without; mode needed sets no SONAME.
{ library, expect, fails }:
let
  # The limits are of the output with the library: the other one holds the log of a build that fails.
  build =
    name: needs: env: hardenNeededMode: limits:
    library {
      inherit name needs;
      hardened = true;
      attributes = {
        __structuredAttrs = true;
        outputs = [
          "out"
          "lib"
        ];
        outputChecks.lib = limits;
        postInstall = "mkdir $out";
        inherit env hardenNeededMode;
      };
    };
  alone = build "alone" [ ] { NIX_CFLAGS_LINK = "-nostdlib"; };
  liba = library { name = "a"; };
  # Its search path leads to none of its inputs, so that their names alone refer to them.
  user = build "user" [ liba ] { NIX_DONT_SET_RPATH = true; };
in
{
  works = expect "allowed" ''
    needed=${(alone "needed" { allowedReferences = [ ]; }).lib}
    [[ $(tag SONAME $needed/lib/libalone.so.1) == libalone.so.1 ]]
    soname=${(alone "soname" { allowedReferences = [ "lib" ]; }).lib}
    [[ $(tag SONAME $soname/lib/libalone.so.1) == $soname/lib/libalone.so.1 ]]
    user=${(user "needed" { disallowedReferences = [ "lib" ]; }).lib}
    tag NEEDED $user/lib/libuser.so.1 | grep -Fx ${liba}/lib/liba.so.1
  '';
  a-soname-fails = fails (alone "soname" { allowedReferences = [ ]; }) [
    "a reference of lib to itself, which outputChecks.lib.allowedReferences does not allow"
    ''hardenNeededMode = "needed"''
  ];
  a-needed-fails = fails (user "needed" { disallowedReferences = [ liba ]; }) [
    "NEEDED liba.so.1 would be ${liba}/lib/liba.so.1, a reference of lib to ${liba}, which outputChecks.lib.disallowedReferences"
  ];
}
