# What tests/nix/test_properties.py builds: small packages, each plain and hardened in both modes.
{
  pkgs ? import ../../nix/hostpkgs { },
  # A derivation with another value is another derivation of the same content.
  variant ? "",
  # Where the host has it: neither package set has Nix itself.
  nixStore ? "/usr/bin/nix-store",
}:
let
  inherit (pkgs) lib stdenv runCommand;
  inherit (import ../../default.nix { inherit pkgs; }) nixHardenNeeded;
  support = pkgs.callPackage ../../nix/check-support.nix { inherit nixHardenNeeded; };

  inModes = lib.genAttrs [
    "plain"
    "soname"
    "needed"
  ];
  modeOf = mode: lib.optionalAttrs (mode != "plain") { hardenNeededMode = mode; };

  # As in check-support.nix, in a mode.
  inMode =
    make: mode: name: needs: attributes:
    make {
      inherit name needs;
      hardened = mode != "plain";
      attributes = modeOf mode // attributes;
    };
  library = inMode support.library;
  program = inMode support.program;

  # liba → libb → app, all in one mode.
  chain = mode: attributes: rec {
    liba = library mode "a" [ ] attributes;
    libb = library mode "b" [ liba ] attributes;
    app = program mode "app" [ libb ] attributes;
  };

  unused = library "plain" "unused" [ ] { };

  # The packages with other store paths, of the same length, in the bytes of all their files: what replaceDependencies of
  # nixpkgs does to each package between the one that is replaced and the one that is asked for.
  rewritten =
    drv: replacements:
    let
      base = path: baseNameOf (builtins.unsafeDiscardStringContext path);
      words = lib.concatMapStrings ({ old, new }: "-e 's|${base old}|${baseNameOf new}|g' ") replacements;
    in
    runCommand drv.name { } ''
      ${nixStore} --dump ${drv} | sed -e "s|${base drv}|''${out##*/}|g" ${words} | ${nixStore} --restore $out
    '';
in
{
  chain = inModes (mode: chain mode { });

  # A C++ library and a program that catches what it throws, in three outputs.
  several = inModes (
    mode:
    stdenv.mkDerivation (
      {
        name = "several";
        outputs = [
          "out"
          "lib"
          "dev"
        ];
        dontUnpack = true;
        nativeBuildInputs = lib.optional (mode != "plain") nixHardenNeeded;
        buildPhase = ''
          runHook preBuild
          echo 'void throws() { throw 3; }' > throws.cc
          echo '#include <iostream>
          void throws();
          int main() { try { throws(); } catch (int number) { std::cout << number << std::endl; } }' > main.cc
          $CXX -shared -fPIC throws.cc -o libthrows.so.1 -Wl,-soname,libthrows.so.1
          $CXX main.cc -o several ./libthrows.so.1
          runHook postBuild
        '';
        installPhase = ''
          runHook preInstall
          mkdir -p "$out/bin" "$lib/lib" "$dev/include"
          cp several "$out/bin"
          cp libthrows.so.1 "$lib/lib"
          ln -s libthrows.so.1 "$lib/lib/libthrows.so"
          echo 'void throws();' > "$dev/include/throws.h"
          runHook postInstall
        '';
      }
      // modeOf mode
    )
  );

  # A program whose build keeps a directory in its search path that it finds nothing in, and that it must not refer to.
  unshrunk = inModes (
    mode:
    program mode "unshrunk" [ (chain mode { }).libb ] {
      dontPatchELF = true;
      NIX_LDFLAGS = "-rpath ${unused}/lib";
    }
  );
  forbidden = inModes (
    mode:
    program mode "forbidden" [ (chain mode { }).libb ] {
      dontPatchELF = true;
      NIX_LDFLAGS = "-rpath ${unused}/lib";
      disallowedReferences = [ unused ];
    }
  );

  # A library that holds the place of its build.
  unstable = library "soname" "unstable" [ ] {
    preBuild = ''source+="const char *built_in = \"$NIX_BUILD_TOP\";"'';
  };

  # A program that opens a hardened library of its inputs by a bare name that nothing answers.
  opener = inModes (
    mode:
    program mode "opener" [ ] {
      buildInputs = [ (chain "soname" { }).liba ];
      source = ''
        #include <dlfcn.h>
        #include <stdio.h>
        int main(void) { return puts(dlopen("liba.so.1", RTLD_NOW) ? "opened" : "not found") < 0; }
      '';
    }
  );
  # A program without a search path to what it is linked to.
  lost = inModes (mode: program mode "lost" [ (chain "plain" { }).liba ] { NIX_DONT_SET_RPATH = true; });

  # A program whose build has removed what its search path referred to.
  removed = inModes (
    mode:
    let
      inherit (chain "plain" { }) liba;
      hash = builtins.substring 0 32 (baseNameOf (builtins.unsafeDiscardStringContext "${liba}"));
    in
    program mode "removed" [ liba ] {
      postFixup = "sed -i s/${hash}/eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee/g $out/bin/removed";
    }
  );

  # liba with another answer, and what is above it made to use that.
  replaced = inModes (
    mode:
    let
      old = chain mode { };
    in
    rec {
      liba = library mode "a" [ ] { source = "int answer_of_a(void) { return 41; }"; };
      libb = rewritten old.libb [
        {
          old = old.liba;
          new = liba;
        }
      ];
      app = rewritten old.app [
        {
          old = old.liba;
          new = liba;
        }
        {
          old = old.libb;
          new = libb;
        }
      ];
    }
  );

  addressed = inModes (
    mode:
    chain mode {
      inherit variant;
      __contentAddressed = true;
      outputHashMode = "recursive";
      outputHashAlgo = "sha256";
    }
  );

  # liba in another derivation.
  twin = inModes (mode: library mode "a" [ ] { variant = "twin"; });

  # A library that needs nothing, with what Nix lets it refer to.
  alone = inModes (
    mode:
    lib.mapAttrs
      (
        name: allowedReferences:
        library mode name [ ] {
          NIX_CFLAGS_LINK = "-nostdlib";
          inherit allowedReferences;
        }
      )
      {
        nothing = [ ];
        itself = [ "out" ];
      }
  );
}
