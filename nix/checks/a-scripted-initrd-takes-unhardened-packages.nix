# A scripted initrd copies programs and, by the bare names in NEEDED, their libraries, overwrites every store path, and
# lets a search path of its own find the copies. It works with `nixHardenNeeded.unharden drv`, and fails without.
{
  chain,
  nixHardenNeeded,
  runCommand,
  patchelf,
  librariesByName,
  expect,
  fails,
}:
let
  hardened =
    (chain {
      a = true;
      b = true;
      app = true;
    }).program';
  extraUtils =
    drv:
    runCommand "extra-utils" { nativeBuildInputs = [ patchelf ]; } ''
      mkdir -p $out/bin $out/lib
      cp -L ${drv}/bin/app $out/bin
      ${librariesByName}
      found=$(libraries $out/bin/app)
      for library in $found; do
        [[ -f $out/lib/''${library##*/} ]] || cp -L "$library" $out/lib
      done
      interpreter=$(patchelf --print-interpreter $out/bin/app)
      cp -L "$interpreter" $out/lib
      chmod -R u+w $out
      nowhere=eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee
      find $out -type f -exec sed -i "s|$NIX_STORE/[0-9a-z]\{32\}-|$NIX_STORE/$nowhere-|g" {} +
      for file in $out/bin/* $out/lib/*; do
        case $file in
          */ld*.so.? | */libc.so.6) ;;
          */bin/*) patchelf --set-interpreter "$out/lib/''${interpreter##*/}" --set-rpath $out/lib "$file" ;;
          *) patchelf --set-rpath $out/lib "$file" ;;
        esac
      done
      [[ $($out/bin/app) == 2 ]]
    '';
  works = extraUtils (nixHardenNeeded.unharden hardened);
in
{
  works = expect "initrd" ''
    prints 2 ${works}/bin/app
    if grep -rF ${hardened} ${works}; then
      fail "the copy refers to what it was copied from"
    fi
  '';
  unhardened-it-runs-in-place = expect "unhardened" ''
    app=${nixHardenNeeded.unharden hardened}/bin/app
    [[ -z $(tag NEEDED $app | grep /) ]]
    prints 2 $app
  '';
  hardened-it-fails = fails (extraUtils hardened) [ "Couldn't satisfy dependency /nix/store/" ];
}
