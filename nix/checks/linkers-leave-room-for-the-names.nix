# Linkers leave room in the string table of what a hardened derivation links, by an entry of the search path that fixup drops.
# The names are then bound in place: no segment is added. Without room patchelf adds one.
{
  lib,
  library,
  program,
  expect,
}:
let
  names = map (n: "of_a_name_that_is_as_long_as_names_are_${toString n}") (lib.range 1 4);
  needs = map (name: library { inherit name; }) names;
  plain =
    attributes:
    library {
      name = "a";
      inherit needs attributes;
    };
  with_ =
    attributes:
    library {
      name = "a";
      inherit needs;
      # so that the names get nothing but the room
      attributes = {
        hardenNeededKeepRunpath = true;
      }
      // attributes;
      hardened = true;
    };
  file = drv: "${drv}/lib/liba.so.1";
  segments = ''
    segments() {
      readelf --program-headers --wide "$1" | grep -c '^  LOAD '
    }
    nothing() {
      ! grep -F nix-harden-needed-room "$1" || fail "$1 still names the room"
    }
  '';
  placed =
    attributes:
    let
      drv = with_ attributes;
    in
    ''
      [[ $(segments ${file drv}) == $(segments ${file (plain attributes)}) ]] || fail "${file drv} has more segments"
      nothing ${file drv}
      searches 0 ${user drv}/bin/user
      prints 5 ${user drv}/bin/user
    '';
  user =
    drv:
    program {
      name = "user";
      needs = [ drv ];
      hardened = true;
    };
in
{
  works = expect "room" (
    segments
    + placed { }
    + placed { __structuredAttrs = true; }
    + placed { NIX_LDFLAGS = "-z now"; }
  );
  linkers = expect "linkers" (
    segments
    + lib.concatMapStrings (linker: placed { NIX_CFLAGS_LINK = "-fuse-ld=${linker}"; }) [
      "bfd"
      "gold"
    ]
  );
  where-nothing-shrinks-the-search-path = expect "unshrunk" (segments + placed { dontPatchELF = true; });
  without-room-a-segment-is-added = expect "without" (
    segments
    + ''
      for file in ${file (with_ { hardenNeededReserve = 0; })} ${file (with_ { hardenNeededReserve = "0"; })}; do
        (($(segments "$file") > $(segments ${file (plain { })}))) || fail "$file was bound in place"
      done
    ''
  );
  what-is-not-hardened-gets-none = expect "off" (
    segments
    + ''
      nothing ${file (with_ { dontHardenNeeded = true; })}
      [[ $(stat -c %s ${file (with_ { dontHardenNeeded = true; })}) == $(stat -c %s ${file (plain { })}) ]]
    ''
  );
}
