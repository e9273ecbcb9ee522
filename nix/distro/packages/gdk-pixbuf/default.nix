{
  lib,
  stdenv,
  source,
  buildPackages,
  gettext,
  meson,
  ninja,
  pkg-config,
  glib,
  libjpeg,
  libpng,
  libtiff,
}:

stdenv.mkDerivation {
  pname = "gdk-pixbuf";
  inherit (source) version;
  src = source;

  outputs = [
    "out"
    "dev"
  ];
  outputBin = "out";

  nativeBuildInputs = [
    buildPackages.python3
    gettext
    glib
    meson
    ninja
    pkg-config
  ];
  buildInputs = [
    libjpeg
    libpng
    libtiff
  ];
  propagatedBuildInputs = [ glib ];
  mesonFlags = [
    "-Dbuiltin_loaders=none"
    "-Dgio_sniffing=false"
    "-Dgtk_doc=false"
    "-Dinstalled_tests=false"
    "-Dintrospection=disabled"
    "-Dman=false"
    # Debian left out the pictures.
    "-Dtests=false"
  ];

  # A module for each format, found by the list that the installation makes
  passthru.programs =
    lib.mapAttrsToList
      (format: image: {
        argv = [
          "bin/gdk-pixbuf-csource"
          "--raw"
          "image.${format}"
        ];
        setup = "echo ${image} | base64 --decode > image.${format}";
      })
      {
        jpeg = "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDABALDA4MChAODQ4SERATGCgaGBYWGDEjJR0oOjM9PDkzODdASFxOQERXRTc4UG1RV19iZ2hnPk1xeXBkeFxlZ2P/wAALCAAEAAQBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAv/EABkQAAEFAAAAAAAAAAAAAAAAAAQAAgUUI//aAAgBAQAAPwBhxQldua//2Q==";
        png = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAAECAIAAAAmkwkpAAAAKUlEQVR42g3HMQEAAAzCMIRVGGdFIXDLlyQSGxcTBIvjU6mt62cyOzcPp2MTQQYaK1UAAAAASUVORK5CYII=";
        tiff = "SUkqAAgAAAAJAAABBAABAAAABAAAAAEBBAABAAAABAAAAAIBAwADAAAAegAAAAMBAwABAAAAAQAAAAYBAwABAAAAAgAAABEBBAABAAAAgAAAABUBAwABAAAAAwAAABYBBAABAAAABAAAABcBBAABAAAAMAAAAAAAAAAIAAgACAAAAIA8AIB4AIC0AIAAPIA8PIB4PIC0PIAAeIA8eIB4eIC0eIAAtIA8tIB4tIC0tIA=";
      };
}
