# A program opens its plugin by dlopen("libplug.so") through its RUNPATH: the hook leaves that, and gives the plugin no SONAME.
# Where a package drops the directory itself, the name is found no more, with the hook or without.
{ stdenv, nixHardenNeeded, expect }:
let
  build =
    { runpath, hooks }:
    stdenv.mkDerivation {
      name = "opener";
      dontUnpack = true;
      nativeBuildInputs = hooks;
      buildPhase = ''
        runHook preBuild
        echo 'int answer(void) { return 42; }' > plug.c
        echo '#include <dlfcn.h>
        #include <stdio.h>
        int main(void) {
          void *plug = dlopen("libplug.so", RTLD_NOW);
          if (!plug) return puts("no plugin") < 0;
          return printf("%d\n", ((int (*)(void))dlsym(plug, "answer"))()) < 0;
        }' > main.c
        $CC -shared -fPIC plug.c -o libplug.so
        $CC main.c -o opener -ldl
        runHook postBuild
      '';
      installPhase = ''
        runHook preInstall
        install -D -m 755 libplug.so "$out/lib/opener/libplug.so"
        install -D -m 755 opener "$out/bin/opener"
        runHook postInstall
      '';
      postFixup = if runpath then ''patchelf --add-rpath "$out/lib/opener" "$out/bin/opener"'' else "";
    };
  hooks = [ nixHardenNeeded ];
  hardened = build {
    runpath = true;
    inherit hooks;
  };
  plain = build {
    runpath = true;
    hooks = [ ];
  };
  dropped = build {
    runpath = false;
    inherit hooks;
  };
in
{
  works = expect "plugin" ''
    prints 42 ${plain}/bin/opener
    prints 42 ${hardened}/bin/opener
    [[ -z $(tag SONAME ${hardened}/lib/opener/libplug.so) ]]
    tag RUNPATH ${hardened}/bin/opener | grep -F ${hardened}/lib/opener
  '';
  without-the-directory-it-is-not-found = expect "plugin-lost" ''
    prints "no plugin" ${dropped}/bin/opener
  '';
}
