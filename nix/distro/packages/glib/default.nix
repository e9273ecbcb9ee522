{
  stdenv,
  source,
  buildPackages,
  gettext,
  meson,
  ninja,
  pkg-config,
  libffi,
  pcre2,
  zlib,
}:

stdenv.mkDerivation {
  pname = "glib";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "out"
    "dev"
  ];

  nativeBuildInputs = [
    buildPackages.python3
    gettext
    meson
    ninja
    pkg-config
  ];
  buildInputs = [ zlib ];
  propagatedBuildInputs = [
    libffi
    pcre2
  ];
  mesonFlags = [
    "-Dglib_debug=disabled"
    "-Dlibelf=disabled"
    "-Dlibmount=disabled"
    "-Dnls=disabled"
    "-Dselinux=disabled"
    # More to compile than all the rest, and minutes to run
    "-Dtests=false"
  ];

  # What other packages generate code with, and a helper that it starts
  postInstall = ''
    moveToOutput share/glib-2.0 "$dev"
    for program in glib-genmarshal glib-gettextize glib-mkenums gtester-report gdbus-codegen; do
      moveToOutput "bin/$program" "$dev"
    done
  '';

  passthru.programs = [
    {
      argv = [
        "bin/gio"
        "cat"
        "numbers.txt"
      ];
      setup = "seq 10000 > numbers.txt";
    }
    {
      argv = [
        "bin/gresource"
        "list"
        "test.gresource"
      ];
      setup = ''
        seq 100 > numbers
        echo '<gresources><gresource prefix="/test"><file compressed="true">numbers</file></gresource></gresources>' > test.xml
        glib-compile-resources --target=test.gresource test.xml
      '';
    }
  ];
}
