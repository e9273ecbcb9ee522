{
  stdenv,
  source,
  buildPackages,
  meson,
  ninja,
  pkg-config,
  freetype,
  glib,
}:

stdenv.mkDerivation {
  pname = "harfbuzz";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];
  outputBin = "out";

  # Debian left it out.
  postPatch = ''
    sed -i /arabic-mark-attach.tests/d test/shape/data/in-house/meson.build
  '';

  nativeBuildInputs = [
    buildPackages.python3
    glib
    meson
    ninja
    pkg-config
  ];
  propagatedBuildInputs = [
    freetype
    glib
  ];
  mesonFlags = [
    "-Dcairo=disabled"
    "-Dchafa=disabled"
    "-Ddocs=disabled"
    "-Dicu=disabled"
    "-Dintrospection=disabled"
  ];

  # Fuzzers and subsets of large fonts take minutes, all the others seconds.
  doCheck = true;
  mesonCheckFlags = [
    "--no-suite"
    "slow"
    "--no-suite"
    "subset"
  ];

  passthru.programs = [
    {
      argv = [
        "bin/hb-shape"
        "--font-funcs=ft"
        "OpenSans-Regular.ttf"
        "fluffiest"
      ];
      setup = "tar -xf ${source} --wildcards --strip-components=4 '*/test/api/fonts/OpenSans-Regular.ttf'";
    }
  ];
}
