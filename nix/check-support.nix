# Small packages to harden, and what the loader says of them. The loader's own trace (LD_DEBUG=libs, ld.so(8)) is the judge:
# "find library=NAME" stands for each name that it searches for, and no such line for a name that is a path.
{
  lib,
  stdenv,
  runCommand,
  testers,
  nixHardenNeeded,
}:
let
  # Functions have long names: linkers merge a string with the end of another, patchelf before 0.16 overwrites the RUNPATH
  # that it shortens with X, and so it renames a function `b` where a search path ends in /lib.
  functionOf = name: "answer_of_${name}";
  calls = needs: lib.concatMapStringsSep " + " (need: "${functionOf need.library}()") needs;
  declares = needs: lib.concatMapStringsSep " " (need: "int ${functionOf need.library}(void);") needs;
  links = needs: lib.concatMapStringsSep " " (need: "-l${need.library}") needs;
  pathOf = drv: builtins.unsafeDiscardStringContext drv.drvPath;

  # What a package of one C file does: each phase as small as it can be, so that all else is stdenv's own.
  compiled =
    {
      name,
      source,
      build,
      install,
      needs ? [ ],
      hardened ? false,
      attributes ? { },
    }:
    stdenv.mkDerivation (
      {
        inherit name source;
        passthru.library = name;
        dontUnpack = true;
        nativeBuildInputs = lib.optional hardened nixHardenNeeded;
        buildInputs = needs;
        buildPhase = ''
          runHook preBuild
          printf '%s\n' "$source" > source.c
          ${build}
          runHook postBuild
        '';
        installPhase = ''
          runHook preInstall
          ${install}
          runHook postInstall
        '';
      }
      // attributes
    );
in
rec {
  # What makes bin/app a wrapper, as makeShellWrapper does, and gives it an output more that names it.
  withWrapper = {
    outputs = [
      "out"
      "man"
    ];
    meta.mainProgram = "app";
    postFixup = ''
      mkdir -p $man/share/man/man1
      echo "$out/bin/app" > $man/share/man/man1/app.1
      mv $out/bin/app $out/bin/.app-wrapped
      printf '#! %s -e\nexport GREETING=%q\nexec -a "$0" "%s"  "$@"\n' "$SHELL" "hello from $out" "$out/bin/.app-wrapped" > $out/bin/app
      chmod +x $out/bin/app
    '';
  };

  # lib${name}.so.1 with one function, which adds one to what those of its needs answer.
  library =
    {
      name,
      needs ? [ ],
      hardened ? false,
      attributes ? { },
    }:
    compiled {
      inherit
        name
        needs
        hardened
        attributes
        ;
      source = "${declares needs} int ${functionOf name}(void) { return 1 + ${calls needs}${lib.optionalString (needs == [ ]) "0"}; }";
      build = "$CC -shared -fPIC source.c -o lib${name}.so.1.0 -Wl,-soname,lib${name}.so.1 ${links needs}";
      install = ''
        mkdir -p "''${!outputLib}/lib"
        cp lib${name}.so.1.0 "''${!outputLib}/lib"
        ln -s lib${name}.so.1.0 "''${!outputLib}/lib/lib${name}.so.1"
        ln -s lib${name}.so.1 "''${!outputLib}/lib/lib${name}.so"
      '';
    };

  # A program that prints what its needs answer.
  program =
    {
      name,
      needs,
      hardened ? false,
      attributes ? { },
    }:
    compiled {
      inherit
        name
        needs
        hardened
        attributes
        ;
      source = "#include <stdio.h>\n${declares needs} int main(void) { return printf(\"%d\\n\", ${calls needs}) < 0; }";
      build = "$CC source.c -o ${name} ${links needs}";
      install = ''
        mkdir -p "''${!outputBin}/bin"
        cp ${name} "''${!outputBin}/bin"
      '';
    };

  # liba → libwide → app: a program that has 3000 symbols looked up, each of which answers what liba does, so that it prints 3000.
  wide = rec {
    liba = library { name = "a"; };
    libwide = libraryOf "";
    # The same functions in other places, each of which answers 2.
    libother = libraryOf "int more(void) { return 1; }\n#define A 1 +";
    libraryOf =
      more:
      library {
        name = "wide";
        needs = [ liba ];
        attributes.source = "${more}\n${thousands}\nint ${functionOf "a"}(void);\n#ifndef A\n#define A\n#endif\n#define F(n) int f##n(void) { return A ${functionOf "a"}(); }\nALL";
      };
    programOf =
      attributes:
      program {
        name = "app";
        needs = [ libwide ];
        attributes = {
          source = "#include <stdio.h>\n${thousands}\n#define F(n) int f##n(void);\nALL\n#undef F\n#define F(n) + f##n()\nint main(void) { return printf(\"%d\\n\", 0 ALL) < 0; }";
        }
        // attributes;
        hardened = attributes ? hardenNeededPrelink;
      };
    # ALL is F of 1000 to 3999
    thousands = lib.concatStringsSep "\n" [
      "#define TEN(n) F(n##0) F(n##1) F(n##2) F(n##3) F(n##4) F(n##5) F(n##6) F(n##7) F(n##8) F(n##9)"
      "#define HUNDRED(n) TEN(n##0) TEN(n##1) TEN(n##2) TEN(n##3) TEN(n##4) TEN(n##5) TEN(n##6) TEN(n##7) TEN(n##8) TEN(n##9)"
      "#define THOUSAND(n) HUNDRED(n##0) HUNDRED(n##1) HUNDRED(n##2) HUNDRED(n##3) HUNDRED(n##4) HUNDRED(n##5) HUNDRED(n##6) HUNDRED(n##7) HUNDRED(n##8) HUNDRED(n##9)"
      "#define ALL THOUSAND(1) THOUSAND(2) THOUSAND(3)"
    ];
  };

  # liba → libb → app, each hardened or not.
  chain =
    {
      a ? false,
      b ? false,
      app ? false,
    }:
    rec {
      liba = library {
        name = "a";
        hardened = a;
      };
      libb = library {
        name = "b";
        needs = [ liba ];
        hardened = b;
      };
      program' = program {
        name = "app";
        needs = [ libb ];
        hardened = app;
      };
    };

  # An overlay: the chain as packages of a set, each built with that of the set that it needs.
  chainOverlay =
    final: _:
    let
      support = final.callPackage ./check-support.nix { inherit nixHardenNeeded; };
    in
    {
      liba = support.library { name = "a"; };
      libb = support.library {
        name = "b";
        needs = [ final.liba ];
      };
      app = support.program {
        name = "app";
        needs = [ final.libb ];
      };
    };

  # A derivation that builds where every line of a script succeeds. The script has these functions:
  #   prints TEXT PROGRAM…    the program prints that and ends well
  #   searches NUMBER PROGRAM the loader searches for so many names at its start
  #   loads FILE PROGRAM      the loader maps that file
  #   lookups PROGRAM         how many symbols the loader looks up at its start, with all bound then
  #   prelinked PROGRAM       next to none, and it has a module
  #   unhelped PROGRAM        3000 and more, as without a module
  #   tag NAME FILE           the values of one tag of the dynamic section, one a line
  expect =
    name: script:
    runCommand name { nativeBuildInputs = [ stdenv.cc.bintools ]; } ''
      fail() {
        echo "$*" >&2
        exit 1
      }
      prints() {
        local answer
        answer=$("''${@:2}")
        [[ $answer == "$1" ]] || fail "''${*:2} printed $answer, not $1"
      }
      trace() {
        LD_DEBUG=libs "$1" 2>&1 >/dev/null
      }
      searches() {
        local found
        found=$(trace "$2" | grep -c 'find library=' || true)
        [[ $found == "$1" ]] || fail "the loader searches for $found names at the start of $2, not $1: $(trace "$2" | grep 'find library=')"
      }
      loads() {
        [[ $(trace "$2") == *"calling init: $1"* ]] || fail "$2 does not load $1: $(trace "$2")"
      }
      lookups() {
        LD_DEBUG=statistics LD_BIND_NOW=1 "$1" 2>&1 >/dev/null | sed -n 's/.*number of relocations: *//p' | head -1
      }
      prelinked() {
        [[ -n $(tag 'AUDIT' "$1") ]] || fail "$1 names no module"
        (($(lookups "$1") < 100)) || fail "the loader looks $(lookups "$1") symbols up at the start of $1"
      }
      unhelped() {
        (($(lookups "$1") >= 3000)) || fail "the loader looks $(lookups "$1") symbols up at the start of $1"
      }
      tag() {
        readelf --dynamic --wide "$2" | sed -n "s/.*($1).*\[\(.*\)\].*/\1/p"
      }
      ${script}
      touch $out
    '';

  # What the NixOS module sets, with as much of the module system as it calls: for the options that a NixOS has, a set of packages and
  # the values of `hardenNeeded`, of which the rest have their defaults.
  moduleOf =
    harden: options: pkgs: values:
    let
      module = import ./module.nix harden {
        inherit options pkgs;
        config.hardenNeeded =
          builtins.mapAttrs (_: option: option.default or false) module.options.hardenNeeded // values;
        lib = lib // {
          mkEnableOption = _: { };
          mkOption = lib.id;
          mkIf = condition: value: if condition then value else { };
          mkMerge = lib.foldl' lib.recursiveUpdate { };
          mkOrder = _: value: value;
          types = {
            enum = lib.id;
            listOf = lib.id;
            raw = null;
            str = null;
          };
        };
      };
    in
    module.config;

  # A shell function for what copies libraries as NixOS's scripted initrd does: all that FILE needs, by joining the directories of
  # search paths with names. Needs patchelf.
  librariesByName = ''
    libraries() {
      local -a left=("$1")
      local -A seen=()
      local file name path found
      while ((''${#left[@]})); do
        file=''${left[0]}
        left=("''${left[@]:1}")
        IFS=: read -ra paths <<< "$(patchelf --print-rpath "$file")"
        for name in $(patchelf --print-needed "$file"); do
          [[ $name != ld*.so.? && -z ''${seen[$name]-} ]] || continue
          seen[$name]=1
          found=
          for path in "''${paths[@]}"; do
            [[ -z $found && -f $path/$name ]] && found=$path/$name
          done
          if [[ -z $found ]]; then
            echo "Couldn't satisfy dependency $name" >&2
            return 1
          fi
          echo "$found"
          left+=("$found")
        done
      done
    }
  '';

  # A derivation that builds where two others are the same one, or are not; neither is built.
  same = a: b: expect "same" "[[ ${pathOf a} == ${pathOf b} ]]";
  differ = a: b: expect "differ" "[[ ${pathOf a} != ${pathOf b} ]]";

  # A derivation that builds where another one fails and says each of some texts in its log.
  fails =
    drv: texts:
    runCommand "${drv.name}-fails" { failed = testers.testBuildFailure drv; } (
      lib.concatMapStrings (text: ''
        grep -F -- ${lib.escapeShellArg text} "$failed/testBuildFailure.log"
      '') texts
      + "touch $out"
    );
}
