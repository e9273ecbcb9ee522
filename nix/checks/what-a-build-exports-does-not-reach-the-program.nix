# A build may export what the programs that it tests need: a library to load first, a Python path. The hook's program has neither.
{ library, expect }:
let
  exporting = library {
    name = "a";
    hardened = true;
    attributes.postFixup = ''
      mkdir "$TMPDIR/exported"
      echo 'raise SystemExit("not for this program")' > "$TMPDIR/exported/argparse.py"
      echo 'void __attribute__((constructor)) gone(void) { __builtin_trap(); }' > trap.c
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
