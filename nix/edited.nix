# The outputs of `drv` once more, edited by `commands`, which find them in the array `places` and their programs by `programs`. What they
# hold of their own old store paths is that of the new ones; nothing is built again.
{
  lib,
  runCommand,
  patchelf,
}:
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
    # Every program of bin, sbin and libexec, each with a null behind it.
    programs() {
      local place directory program
      for place in "''${places[@]}"; do
        for directory in "$place"/{bin,sbin,libexec}; do
          [[ -d $directory && ! -L $directory ]] || continue
          while IFS= read -r -d "" program; do
            if ${patchelf}/bin/patchelf --print-interpreter "$program" > /dev/null 2>&1; then
              printf '%s\0' "$program"
            fi
          done < <(find "$directory" -type f -perm -0100 -print0 | sort -z)
        done
      done
    }
    ${commands}
  ''
