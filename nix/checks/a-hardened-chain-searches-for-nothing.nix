# liba → libb → app, all with the hook: the loader searches for no name at all; without it, for each.
{ chain, expect }:
let
  hardened = chain {
    a = true;
    b = true;
    app = true;
  };
  plain = chain { };
in
{
  works = expect "nothing-searched" ''
    searches 0 ${hardened.program'}/bin/app
    loads ${hardened.liba}/lib/liba.so.1 ${hardened.program'}/bin/app
    loads ${hardened.libb}/lib/libb.so.1 ${hardened.program'}/bin/app
    prints 2 ${hardened.program'}/bin/app
    [[ -z $(tag RUNPATH ${hardened.program'}/bin/app) ]]
  '';
  without-the-hook-each-name-is-searched = expect "each-searched" ''
    searches 3 ${plain.program'}/bin/app
    prints 2 ${plain.program'}/bin/app
  '';
}
