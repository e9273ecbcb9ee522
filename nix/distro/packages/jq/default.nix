{
  stdenv,
  source,
  autoreconfHook,
  oniguruma,
}:

stdenv.mkDerivation {
  pname = "jq";
  inherit (source) version;
  src = source;

  outputs = [
    "bin"
    "lib"
    "dev"
    "out"
  ];

  nativeBuildInputs = [ autoreconfHook ];
  buildInputs = [ oniguruma ];
  # The version would come from git.
  postPatch = ''
    echo 'printf ${source.version}' > scripts/version
  '';
  configureFlags = [
    "--disable-docs"
    "--disable-maintainer-mode"
    "--with-oniguruma=${oniguruma.lib}"
  ];
  enableParallelBuilding = true;
  doCheck = true;

  # libtool has no way to say at once that the program takes libjq.so, and not
  # from the build directory, which then is not there for shrink-rpath.
  preFixup = ''
    rm -r .libs
  '';

  postInstall = ''
    mkdir -p "$out"
  '';

  passthru.programs = [
    {
      argv = [
        "bin/jq"
        "--compact-output"
        "[.[] | select(.a | test(\"^o.e\")) | .b + 1, (.c | sqrt)]"
      ];
      stdin = ''[{"a":"one","b":1,"c":2},{"a":"two","b":2,"c":4}]'';
    }
  ];
}
