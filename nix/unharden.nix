# The way back, for what copies libraries by their bare names or overwrites store paths: scripted initrds, bundles. The
# result has the outputs of `drv`, with bare names and search paths; hardened libraries of other packages that they need lie
# in lib/unhardened of the output `lib`, or of the first.
{
  lib,
  runCommand,
  nix-harden,
}:
drv:
let
  outputs = drv.outputs or [ "out" ];
  libOutput = if lib.elem "lib" outputs then "lib" else lib.head outputs;
in
runCommand drv.name
  (
    {
      inherit outputs;
      meta = drv.meta or { };
      passthru = (drv.passthru or { }) // {
        hardened = drv;
      };
    }
    // lib.listToAttrs (map (name: lib.nameValuePair "old_${name}" drv.${name}) outputs)
  )
  ''
    places=()
    for name in ${toString outputs}; do
      old=old_$name
      cp -r --no-dereference --preserve=mode,links "''${!old}" "''${!name}"
      chmod -R u+w "''${!name}"
      places+=("''${!name}")
    done
    # Store paths of one name have one length, so what the files hold of the old ones can be overwritten in place.
    for name in ${toString outputs}; do
      old=old_$name
      { grep -rlFZ -- "''${!old}" "''${places[@]}" || true; } | xargs -0r sed -i "s|''${!old}|''${!name}|g"
      find "''${places[@]}" -type l -lname "''${!old}*" -print0 | while IFS= read -r -d "" link; do
        target=$(readlink "$link")
        ln -sfn "''${!name}''${target#"''${!old}"}" "$link"
      done
    done
    ${nix-harden}/bin/nix-harden unharden --carry "''$${libOutput}/lib/unhardened" "''${places[@]}"
  ''
