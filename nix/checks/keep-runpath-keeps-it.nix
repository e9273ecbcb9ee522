# hardenNeededKeepRunpath keeps the directories that nothing needs any more; without it they go.
{ library, program, expect }:
let
  liba = library { name = "a"; };
  user =
    keep:
    program {
      name = "user";
      needs = [ liba ];
      hardened = true;
      attributes.hardenNeededKeepRunpath = keep;
    };
in
{
  works = expect "kept" ''
    tag RUNPATH ${user true}/bin/user | grep -F ${liba}/lib
    searches 0 ${user true}/bin/user
  '';
  otherwise-it-goes = expect "dropped" ''
    [[ -z $(tag RUNPATH ${user false}/bin/user) ]]
    prints 1 ${user false}/bin/user
  '';
}
