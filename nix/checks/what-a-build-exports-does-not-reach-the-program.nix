# A build may export what the programs that it tests need: a library to load first, a Python path. The hook's program has neither.
{ library, expect }:
let
  exporting = library {
    name = "a";
    hardened = true;
    attributes.postFixup = ''
      mkdir "$TMPDIR/exported"
      echo 'raise SystemExit("not for this program")' > "$TMPDIR/exported/argparse.py"
      # It ends Python alone: other hooks of the fixup phase run after this one, with what the build exports.
      echo '#define _GNU_SOURCE
      #include <errno.h>
      #include <string.h>
      void __attribute__((constructor)) end(void) {
        if (strstr(program_invocation_name, "python")) __builtin_trap();
      }' > trap.c
      $CC -shared -fPIC trap.c -o "$TMPDIR/exported/libtrap.so"
      export PYTHONPATH=$TMPDIR/exported
      export LD_PRELOAD=$TMPDIR/exported/libtrap.so
    '';
  };
in
{
  works = expect "exported" ''
    [[ $(tag SONAME ${exporting}/lib/liba.so.1) == ${exporting}/lib/liba.so.1 ]]
  '';
}
