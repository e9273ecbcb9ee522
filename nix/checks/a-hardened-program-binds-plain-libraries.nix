# Of liba → libb → app only app has the hook: its own names are bound, what libb needs is still searched for.
{ chain, expect }:
let
  inherit (chain { app = true; }) liba libb program';
in
{
  works = expect "program-only" ''
    tag NEEDED ${program'}/bin/app | grep -Fx ${libb}/lib/libb.so.1
    [[ -z $(tag NEEDED ${program'}/bin/app | grep -v ^/) ]]
    [[ $(tag SONAME ${libb}/lib/libb.so.1) == libb.so.1 ]]
    searches 1 ${program'}/bin/app
    prints 2 ${program'}/bin/app
  '';
}
