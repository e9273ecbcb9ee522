{
  stdenv,
  source,
  libxml2,
}:

stdenv.mkDerivation {
  pname = "libxslt";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "dev"
    "out"
  ];

  propagatedBuildInputs = [ libxml2 ];
  configureFlags = [
    "--with-libxml-prefix=${libxml2.dev}"
    "--without-crypto"
    "--without-python"
  ];
  enableParallelBuilding = true;
  doCheck = true;

  postInstall = ''
    moveToOutput bin/xslt-config "$dev"
    moveToOutput lib/xsltConf.sh "$dev"
  '';

  passthru.programs = [
    {
      setup = ''
        echo '<a><b>1</b><b>2</b></a>' > a.xml
        cat > a.xsl <<'END'
        <x:stylesheet version='1.0' xmlns:x='http://www.w3.org/1999/XSL/Transform'
            xmlns:m='http://exslt.org/math' xmlns:s='http://exslt.org/strings'>
          <x:output method='text'/>
          <x:template match='/a'>
            <x:value-of select='sum(b)'/> <x:value-of select='m:max(b)'/> <x:value-of select='s:padding(3, "-")'/>
          </x:template>
        </x:stylesheet>
        END
      '';
      argv = [
        "bin/xsltproc"
        "a.xsl"
        "a.xml"
      ];
    }
  ];
}
