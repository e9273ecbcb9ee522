{
  stdenv,
  source,
  libyaml,
  lua5_4,
}:

stdenv.mkDerivation {
  pname = "lua-yaml";
  inherit (source) version;
  src = source;

  buildInputs = [
    libyaml
    lua5_4
  ];

  # Upstream's build tool is a Lua program of its own that compiles this way.
  buildPhase = ''
    runHook preBuild
    $CC -O2 -fPIC -shared -DPACKAGE='"lyaml"' -DVERSION='"$version"' -DNDEBUG -o yaml.so ext/yaml/*.c -lyaml
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    install -D yaml.so -t "$out/lib/lua/5.4"
    mkdir -p "$out/share/lua/5.4"
    cp -r lib/lyaml "$out/share/lua/5.4"
    runHook postInstall
  '';
}
