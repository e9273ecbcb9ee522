# A program links to a hardened liba and also calls dlopen("liba.so.1"): its SONAME matches no more, and shrink-rpath has
# dropped the directory, so the hook gives the directory back. A program that does not have the hook fails.
{
  stdenv,
  library,
  nixHardenNeeded,
  expect,
}:
let
  liba = library {
    name = "a";
    hardened = true;
  };
  build =
    hooks:
    stdenv.mkDerivation {
      name = "reopener";
      dontUnpack = true;
      nativeBuildInputs = hooks;
      buildInputs = [ liba ];
      buildPhase = ''
        runHook preBuild
        echo '#include <dlfcn.h>
        #include <stdio.h>
        int answer_of_a(void);
        int main(void) { return printf("%d %s\n", answer_of_a(), dlopen("liba.so.1", RTLD_NOW) ? "found" : "lost") < 0; }' > main.c
        $CC main.c -o reopener -la -ldl
        runHook postBuild
      '';
      installPhase = ''
        runHook preInstall
        install -D -m 755 reopener "$out/bin/reopener"
        runHook postInstall
      '';
    };
in
{
  works = expect "reopened" ''
    prints "1 found" ${build [ nixHardenNeeded ]}/bin/reopener
    searches 1 ${build [ nixHardenNeeded ]}/bin/reopener # by dlopen, none at its start
  '';
  without-the-hook-shrink-rpath-has-dropped-it = expect "reopened-plain" ''
    prints "1 lost" ${build [ ]}/bin/reopener
  '';
}
