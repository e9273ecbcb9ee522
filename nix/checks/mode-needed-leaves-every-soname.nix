# In `needed` mode a library's own names are bound and its SONAME is not, so that it has no reference to itself.
{ library, program, expect }:
let
  liba = library { name = "a"; };
  libb =
    mode:
    library {
      name = "b";
      needs = [ liba ];
      hardened = true;
      attributes.hardenNeededMode = mode;
    };
  user =
    mode:
    program {
      name = "user";
      needs = [ (libb mode) ];
      hardened = true;
      attributes.hardenNeededMode = mode;
    };
in
{
  works = expect "needed" ''
    [[ $(tag SONAME ${libb "needed"}/lib/libb.so.1) == libb.so.1 ]]
    tag NEEDED ${libb "needed"}/lib/libb.so.1 | grep -Fx ${liba}/lib/liba.so.1
    if grep -F ${libb "needed"} ${libb "needed"}/lib/libb.so.1.0; then
      fail "the library refers to itself"
    fi
    searches 0 ${user "needed"}/bin/user
    prints 2 ${user "needed"}/bin/user
  '';
  mode-soname-sets-it = expect "soname" ''
    [[ $(tag SONAME ${libb "soname"}/lib/libb.so.1) == ${libb "soname"}/lib/libb.so.1 ]]
    searches 0 ${user "soname"}/bin/user
    prints 2 ${user "soname"}/bin/user
  '';
}
