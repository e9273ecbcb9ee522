{ stdenv, source }:

stdenv.mkDerivation {
  pname = "bzip2";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  enableParallelBuilding = true;
  makeFlags = [ "CC=gcc" ];

  # Two makefiles: one for the programs and a static library, one for the shared
  # library. Both compile the same objects, without and with -fPIC.
  postBuild = ''
    mkdir shared
    cp *.c *.h Makefile-libbz2_so shared
    make -C shared -f Makefile-libbz2_so CC=gcc
  '';
  doCheck = true;

  installFlags = [ "PREFIX=$(bin)" ];
  postInstall = ''
    mkdir -p "$out/lib"
    mv "$bin/man" "$bin/share"
    rm -r "$bin/lib"
    install -m 755 shared/bzip2-shared "$bin/bin/bzip2"
    install -m 755 shared/libbz2.so.1.0.8 "$out/lib"
    ln -s libbz2.so.1.0.8 "$out/lib/libbz2.so.1.0"
    ln -s libbz2.so.1.0.8 "$out/lib/libbz2.so.1"
    ln -s libbz2.so.1.0.8 "$out/lib/libbz2.so"
    for name in bunzip2 bzcat; do
      ln -sf bzip2 "$bin/bin/$name"
    done
  '';

  passthru.programs = [
    {
      argv = [
        "bin/bzip2"
        "-9"
        "--stdout"
      ];
      stdin = "the same words, the same words, the same words\n";
    }
    {
      setup = "seq 9999 | bzip2 > numbers.bz2";
      argv = [
        "bin/bzcat"
        "numbers.bz2"
      ];
    }
    {
      setup = "seq 999 | bzip2 > numbers.bz2";
      argv = [
        "bin/bzip2recover"
        "numbers.bz2"
      ];
    }
  ];
}
