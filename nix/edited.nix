# The outputs of `drv` once more, edited by `commands`, which find them in the array `places`. What they hold of their own old
# store paths is that of the new ones; nothing is built again.
{ lib, runCommand }:
drv:
{ commands, passthru }:
let
  outputs = drv.outputs or [ "out" ];
in
runCommand drv.name
  (
    {
      inherit outputs;
      meta = drv.meta or { };
      passthru = (drv.passthru or { }) // passthru;
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
    ${commands}
  ''
