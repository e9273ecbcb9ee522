{
  stdenv,
  source,
  cmake,
}:

stdenv.mkDerivation {
  pname = "libjpeg-turbo";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "out"
    "dev"
  ];

  nativeBuildInputs = [ cmake ];
  cmakeFlags = [
    "-DENABLE_STATIC=OFF"
    # for want of nasm
    "-DWITH_SIMD=OFF"
  ];

  # One program takes longer than all others together.
  doCheck = true;
  preCheck = ''
    checkFlagsArray+=("ARGS=--exclude-regex tjunittest")
  '';

  passthru.programs = [
    {
      argv = [
        "bin/djpeg"
        "-pnm"
        "gray.jpg"
      ];
      setup = ''
        { printf 'P5 64 64 255\n'; seq 10000 | head -c 4096; } > gray.pgm
        cjpeg gray.pgm > gray.jpg
      '';
    }
  ];
}
