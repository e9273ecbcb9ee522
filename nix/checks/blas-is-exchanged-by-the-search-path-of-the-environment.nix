# As nixpkgs' manual has it: another implementation takes the place of the one that a program was linked with by LD_LIBRARY_PATH. What else the
# program needs is bound, and so is an implementation's own library.
{
  library,
  program,
  expect,
}:
let
  kernels = library { name = "kernels"; };
  implementationOf =
    more:
    library {
      name = "blas";
      needs = [ kernels ];
      hardened = true;
      attributes = {
        source = "int answer_of_kernels(void); int answer_of_blas(void) { return answer_of_kernels()${more}; }";
        buildPhase = ''
          printf '%s\n' "$source" > source.c
          $CC -shared -fPIC source.c -o libblas.so.3 -Wl,-soname,libblas.so.3 -lkernels
        '';
        installPhase = ''
          mkdir -p $out/lib
          cp libblas.so.3 $out/lib
          ln -s libblas.so.3 $out/lib/libblas.so
        '';
      };
    };
  reference = implementationOf "";
  fast = implementationOf " + 1";
  app = program {
    name = "app";
    needs = [
      reference
      (library { name = "a"; })
    ];
    hardened = true;
  };
in
{
  the-other-is-taken = expect "exchanged" ''
    prints 2 ${app}/bin/app
    LD_LIBRARY_PATH=${fast}/lib prints 3 ${app}/bin/app
  '';
  only-its-name-is-searched-for = expect "names" ''
    searches 1 ${app}/bin/app
    [[ $(tag NEEDED ${app}/bin/app | head -1) == libblas.so.3 ]] || fail "it is bound"
    [[ $(tag SONAME ${reference}/lib/libblas.so.3) == libblas.so.3 ]] || fail "its own name is a path"
    [[ $(tag NEEDED ${reference}/lib/libblas.so.3 | head -1) == ${kernels}/lib/libkernels.so.1 ]] || fail "what it needs is not bound"
  '';
}
