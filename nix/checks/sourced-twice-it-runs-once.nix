# A hook that comes in as nativeBuildInput and by propagation is sourced twice; it hardens once, and says so once.
{
  library,
  makeSetupHook,
  nixHardenNeeded,
  writeText,
  expect,
}:
let
  counting = makeSetupHook { name = "counting-hook"; } (
    writeText "count.sh" ''
      postFixupHooks+=(countLater)
      countLater() {
        local hook
        for hook in "''${postFixupHooks[@]}"; do
          [[ $hook != nixHardenNeeded ]] || echo "$hook" >> $out/hooks
        done
      }
    ''
  );
  carrier = makeSetupHook {
    name = "carrier-hook";
    propagatedBuildInputs = [ nixHardenNeeded ];
  } (writeText "carrier.sh" "");
  twice = library {
    name = "a";
    attributes = {
      nativeBuildInputs = [
        nixHardenNeeded
        carrier
        counting
      ];
      buildInputs = [ nixHardenNeeded ];
    };
  };
in
{
  works = expect "once" ''
    [[ $(cat ${twice}/hooks) == nixHardenNeeded ]]
    [[ $(tag SONAME ${twice}/lib/liba.so.1) == ${twice}/lib/liba.so.1 ]]
  '';
}
