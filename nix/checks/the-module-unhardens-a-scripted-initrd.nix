# NixOS's scripted initrd copies programs, runs what modules add, copies the libraries that it finds by joining directories and
# names, overwrites every hash and sets the search path. With the module's command it works; without, it finds no library.
{
  lib,
  everything,
  harden,
  moduleOf,
  supportIn,
  librariesByName,
  runCommand,
  patchelf,
  expect,
  fails,
}:
let
  configOf = options: moduleOf harden options everything;
  on = {
    enable = true;
    mode = "soname";
  };
  scripted.boot.initrd.extraUtilsCommands = { };
  inherit ((supportIn everything).chain { }) program';

  extraUtils =
    extraUtilsCommands:
    runCommand "extra-utils" { nativeBuildInputs = [ patchelf ]; } ''
      mkdir -p $out/bin $out/lib
      cp -pd ${program'}/bin/app $out/bin
      ${extraUtilsCommands}
      interpreter=$(patchelf --print-interpreter $out/bin/app)
      cp -p "$interpreter" $out/lib
      ${librariesByName}
      for file in $out/bin/* $out/lib/*; do
        case $file in */ld*.so.?) continue ;; esac
        found=$(libraries "$file")
        for library in $found; do
          [[ -f $out/lib/''${library##*/} ]] || cp -L "$library" $out/lib
        done
      done
      chmod -R u+w $out
      nowhere=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
      own=''${out#"$NIX_STORE"/}
      find $out -type f -exec sed -i "s|$NIX_STORE/\(''${own%%-*}\)-|@own@/\1-|g; s|$NIX_STORE/[0-9a-z]\{32\}-|$NIX_STORE/$nowhere-|g; s|@own@/|$NIX_STORE/|g" {} + || true
      patchelf --set-interpreter "$out/lib/''${interpreter##*/}" --set-rpath $out/lib $out/bin/app
      for file in $out/lib/*; do
        case $file in */ld*.so.? | */libc.so.6) ;; *) patchelf --set-rpath $out/lib "$file" ;; esac
      done
      [[ $($out/bin/app) == 2 ]]
    '';
  works = extraUtils (configOf scripted on).boot.initrd.extraUtilsCommands;
in
{
  works = expect "initrd" ''
    prints 2 ${works}/bin/app
    if grep -rF ${program'} ${works}; then
      fail "the copy refers to what it was copied from"
    fi
    loads ${works}/lib/liba.so.1 ${works}/bin/app
  '';
  without-the-module-it-fails = fails (extraUtils "") [ "Couldn't satisfy dependency /nix/store/" ];
  switched-off-nothing-is-set = expect "off" ''
    [[ "${toString (lib.attrNames (configOf scripted (on // { enable = false; })))}" == nixpkgs ]]
    [[ ${toString (lib.length (configOf scripted (on // { enable = false; })).nixpkgs.overlays)} == 0 ]]
  '';
  where-no-initrd-is-scripted = expect "systemd" ''
    [[ "${toString (lib.attrNames (configOf { } on).boot.initrd)}" == "" ]]
  '';
}
