# Of liba → libb → app only liba has the hook: the linker copies its SONAME into libb, which has none.
{ chain, expect }:
let
  hardened = chain { a = true; };
  plain = chain { };
in
{
  works = expect "propagation" ''
    [[ $(tag SONAME ${hardened.liba}/lib/liba.so.1) == ${hardened.liba}/lib/liba.so.1 ]]
    tag NEEDED ${hardened.libb}/lib/libb.so.1 | grep -Fx ${hardened.liba}/lib/liba.so.1
    loads ${hardened.liba}/lib/liba.so.1 ${hardened.program'}/bin/app
    prints 2 ${hardened.program'}/bin/app
  '';
  without-the-hook-nothing-is-bound = expect "no-propagation" ''
    [[ $(tag SONAME ${plain.liba}/lib/liba.so.1) == liba.so.1 ]]
    tag NEEDED ${plain.libb}/lib/libb.so.1 | grep -Fx liba.so.1
    prints 2 ${plain.program'}/bin/app
  '';
}
