# With hardenNeededPrelink each program that has enough to gain names a module, in nix-support of its output, that knows where its
# symbols are: the loader looks up next to none. A library that is preloaded, or that a graft has put in the place of another, counts
# all the same, as the module is out of the way then.
{
  wide,
  program,
  library,
  chain,
  runCommand,
  lib,
  expect,
  fails,
}:
let
  inherit (wide) liba libwide libother;
  plain = wide.programOf { };
  prelinked = wide.programOf { hardenNeededPrelink = true; };
  several = wide.programOf {
    hardenNeededPrelink = true;
    outputs = [
      "out"
      "bin"
    ];
    postInstall = ''
      mkdir -p $out/share
    '';
    # as makeShellWrapper does
    postFixup = ''
      mv $bin/bin/app $bin/bin/.app-wrapped
      printf '#! %s -e\nexport GREETING=hello\nexec -a "$0" "%s"  "$@"\n' "$SHELL" "$bin/bin/.app-wrapped" > $bin/bin/app
      chmod +x $bin/bin/app
    '';
  };
  structured = wide.programOf {
    hardenNeededPrelink = true;
    __structuredAttrs = true;
  };
  small =
    attributes:
    program {
      name = "app";
      needs = [
        (chain {
          a = true;
          b = true;
        }).libb
      ];
      hardened = true;
      inherit attributes;
    };
  all = {
    hardenNeededPrelink = true;
    hardenNeededPrelinkFrom = 0;
  };
  # its loader starts it only as long as nothing asks for what is nowhere
  lost = small (
    all
    // {
      source = "int lost(void); int main(int count, char **words) { return count > 9 ? lost() : 0; }";
      preBuild = ''
        echo 'int lost(void) { return 1; }' > stub.c
        $CC -shared -fPIC stub.c -o libstub.so -Wl,-soname,libb.so.1
      '';
      NIX_LDFLAGS = "-L. -lstub";
    }
  );
  interposing = library {
    name = "interposing";
    attributes.source = "int f1000(void) { return 1001; }";
  };

  closureOf =
    drv:
    runCommand "closure" { exportReferencesGraph = [ "graph" drv ]; } ''
      grep "^$NIX_STORE/" graph | sort -u > $out
    '';
  # What replaceDependencies does: a copy of each file, in which store paths of one length have taken the place of others.
  graft =
    drv: replaced:
    runCommand drv.name { } ''
      cp -r ${drv} $out
      chmod -R u+w $out
      find $out -type f -exec sed -i -e "s|${drv}|$out|g" ${
        lib.concatMapStringsSep " " (pair: "-e 's|${pair.old}|${pair.new}|g'") replaced
      } {} +
    '';
  grafted = graft prelinked [
    {
      old = libwide;
      new = libother;
    }
  ];
  # another liba, and libwide once more with nothing but that name in it changed
  otherA = library {
    name = "a";
    attributes.source = "int more(void) { return 1; } int answer_of_a(void) { return 1 + more(); }";
  };
  through = [
    {
      old = liba;
      new = otherA;
    }
  ];
  graftedBelow = graft prelinked (
    through
    ++ [
      {
        old = libwide;
        new = graft libwide through;
      }
    ]
  );
in
{
  works = expect "prelinked" ''
    prints 3000 ${plain}/bin/app
    prints 3000 ${prelinked}/bin/app
    unhelped ${plain}/bin/app
    prelinked ${prelinked}/bin/app
    searches 0 ${prelinked}/bin/app
    [[ $(tag AUDIT ${prelinked}/bin/app) == ${prelinked}/nix-support/prelink/bin/app.so ]]
    [[ $(ls -A ${prelinked}/bin) == app ]]
  '';
  with-several-outputs-and-a-wrapper = expect "several" ''
    prints 3000 ${several.bin}/bin/app
    prelinked ${several.bin}/bin/.app-wrapped
    [[ $(tag AUDIT ${several.bin}/bin/.app-wrapped) == ${several.bin}/nix-support/prelink/bin/.app-wrapped.so ]]
    [[ ! -e ${several}/nix-support/prelink ]]
  '';
  with-structured-attributes = expect "structured" "prelinked ${structured}/bin/app";
  its-closure-is-that-of-the-plain-program = expect "closure" ''
    names() {
      sed "s|^$NIX_STORE/[0-9a-z]*-||" "$1" | sort
    }
    grep -aF ${liba} ${prelinked}/nix-support/prelink/bin/app.so > /dev/null
    diff <(names ${closureOf plain}) <(names ${closureOf prelinked})
  '';
  what-gains-too-little-stays = expect "small" ''
    searches 0 ${small { hardenNeededPrelink = true; }}/bin/app
    [[ -z $(tag AUDIT ${small { hardenNeededPrelink = true; }}/bin/app) ]]
    [[ ! -e ${small { hardenNeededPrelink = true; }}/nix-support ]]
    prelinked ${small all}/bin/app
    prints 2 ${small all}/bin/app
  '';
  what-is-preloaded-interposes = expect "preloaded" ''
    export LD_PRELOAD=${interposing}/lib/libinterposing.so.1
    prints 4000 ${plain}/bin/app
    prints 4000 ${prelinked}/bin/app
    unhelped ${prelinked}/bin/app
  '';
  a-grafted-library-is-noticed = expect "grafted" ''
    [[ $(tag NEEDED ${grafted}/bin/app | head -1) == ${libother}/lib/libwide.so.1 ]]
    [[ $(tag AUDIT ${grafted}/bin/app) == ${grafted}/nix-support/prelink/bin/app.so ]]
    if grep -rF -e ${libwide} -e ${prelinked} ${grafted}; then fail "it refers to what was replaced"; fi
    prints 6000 ${grafted}/bin/app
    unhelped ${grafted}/bin/app
  '';
  a-copy-under-another-path-is-what-it-was = expect "copied" ''
    prelinked ${graft prelinked [ ]}/bin/app
  '';
  one-that-is-grafted-below-another-is-noticed = expect "grafted-below" ''
    prints 6000 ${graftedBelow}/bin/app
    unhelped ${graftedBelow}/bin/app
    loads ${otherA}/lib/liba.so.1 ${graftedBelow}/bin/app
  '';
  what-cannot-be-prelinked-is-left = expect "left" ''
    ${lost}/bin/app
    [[ -z $(tag AUDIT ${lost}/bin/app) ]]
  '';
  strict-refuses-it = fails (lost.overrideAttrs { hardenNeededStrict = true; }) [
    "not prelinked, nothing was written: its loader does not start it"
    "undefined symbol: lost"
    "1 finding, and hardenNeededStrict is set"
  ];
}
