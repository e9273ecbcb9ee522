{
  stdenv,
  source,
  xz,
  zlib,
}:

stdenv.mkDerivation {
  pname = "libxml2";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  propagatedBuildInputs = [
    xz
    zlib
  ];
  configureFlags = [
    "--with-lzma=${xz.dev}"
    "--with-zlib=${zlib.dev}"
    "--without-icu"
    "--without-python"
  ];
  enableParallelBuilding = true;
  # Debian leaves out the files that most of the test suite reads.
  doCheck = true;
  checkTarget = "testapi testchar testdict";
  postCheck = ''
    ./testapi
    ./testchar
    ./testdict
  '';

  postInstall = ''
    moveToOutput bin/xml2-config "$dev"
    moveToOutput lib/xml2Conf.sh "$dev"
  '';

  passthru.programs = [
    {
      argv = [
        "bin/xmllint"
        "--format"
        "--xpath"
        "//b[@c > 1]"
        "-"
      ];
      stdin = "<a><b c='1'>one</b><b c='2'>two</b></a>";
    }
    {
      setup = "echo '<a/>' | gzip > a.xml.gz";
      argv = [
        "bin/xmllint"
        "--debug"
        "a.xml.gz"
      ];
    }
    {
      argv = [
        "bin/xmlcatalog"
        "--create"
      ];
    }
  ];
}
