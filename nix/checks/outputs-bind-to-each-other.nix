# A package of four outputs whose program uses its own library: one run of the hook sees all of them, and the SONAME names
# the lib output. Without the hook the loader searches for it.
{ stdenv, nixHardenNeeded, expect }:
let
  build =
    hooks:
    stdenv.mkDerivation {
      name = "several";
      outputs = [
        "out"
        "lib"
        "dev"
        "bin"
      ];
      dontUnpack = true;
      nativeBuildInputs = hooks;
      buildPhase = ''
        runHook preBuild
        echo 'int two(void) { return 2; }' > two.c
        echo '#include <stdio.h>
        int two(void);
        int main(void) { return printf("%d\n", two()) < 0; }' > main.c
        $CC -shared -fPIC two.c -o libtwo.so.2.1 -Wl,-soname,libtwo.so.2
        ln -s libtwo.so.2.1 libtwo.so
        $CC main.c -o two -L. -ltwo
        runHook postBuild
      '';
      installPhase = ''
        runHook preInstall
        mkdir -p "$out/share" "$lib/lib" "$dev/include" "$bin/bin"
        cp libtwo.so.2.1 "$lib/lib"
        ln -s libtwo.so.2.1 "$lib/lib/libtwo.so.2"
        ln -s libtwo.so.2 "$lib/lib/libtwo.so"
        echo 'int two(void);' > "$dev/include/two.h"
        cp two "$bin/bin"
        echo data > "$out/share/data"
        runHook postInstall
      '';
    };
  hardened = build [ nixHardenNeeded ];
  plain = build [ ];
in
{
  works = expect "outputs" ''
    [[ $(tag SONAME ${hardened.lib}/lib/libtwo.so) == ${hardened.lib}/lib/libtwo.so.2 ]]
    tag NEEDED ${hardened.bin}/bin/two | grep -Fx ${hardened.lib}/lib/libtwo.so.2
    searches 0 ${hardened.bin}/bin/two
    prints 2 ${hardened.bin}/bin/two
  '';
  without-the-hook-it-searches = expect "outputs-plain" ''
    searches 2 ${plain.bin}/bin/two
    prints 2 ${plain.bin}/bin/two
  '';
}
