# After an attribute `postFixup` that moves a library, after lib64 has become lib, after hooks that register late: the names
# are those of the final places. A library that is moved after the build would be lost.
{
  library,
  program,
  makeSetupHook,
  nixHardenNeeded,
  writeText,
  expect,
}:
let
  # Registers its move from preFixupHooks, and stands behind the hook in nativeBuildInputs.
  late = makeSetupHook { name = "late-mover-hook"; } (
    writeText "late-mover.sh" ''
      preFixupHooks+=(registerLateMover)
      registerLateMover() { postFixupHooks+=(moveLate); }
      moveLate() {
        mkdir -p $out/lib/late
        mv $out/lib/liba.so* $out/lib/late
      }
    ''
  );
  moved = library {
    name = "a";
    hardened = true;
    attributes.postFixup = ''
      mkdir -p $out/lib/moved
      mv $out/lib/liba.so* $out/lib/moved
    '';
  };
  movedLate = library {
    name = "a";
    attributes.nativeBuildInputs = [
      nixHardenNeeded
      late
    ];
  };
  lib64 = library {
    name = "a";
    hardened = true;
    attributes.postInstall = "mv $out/lib $out/lib64";
  };
  user =
    lib: directory:
    program {
      name = "user";
      needs = [ lib ];
      attributes.NIX_LDFLAGS = "-L${lib}/${directory}";
    };
in
{
  an-attribute-moves-it = expect "moved" ''
    [[ $(tag SONAME ${moved}/lib/moved/liba.so.1) == ${moved}/lib/moved/liba.so.1 ]]
    prints 1 ${user moved "lib/moved"}/bin/user
  '';
  a-late-hook-moves-it = expect "moved-late" ''
    [[ $(tag SONAME ${movedLate}/lib/late/liba.so.1) == ${movedLate}/lib/late/liba.so.1 ]]
    prints 1 ${user movedLate "lib/late"}/bin/user
  '';
  lib64-becomes-lib = expect "lib64" ''
    [[ $(tag SONAME ${lib64}/lib/liba.so.1) == ${lib64}/lib/liba.so.1 ]]
    prints 1 ${user lib64 "lib"}/bin/user
  '';
}
