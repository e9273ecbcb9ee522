{
  stdenv,
  source,
  lua5_4,
}:

stdenv.mkDerivation {
  pname = "lua-cjson";
  inherit (source) version;
  src = source;

  buildInputs = [ lua5_4 ];

  makeFlags = [
    "PREFIX=$(out)"
    "LUA_VERSION=5.4"
    "LUA_INCLUDE_DIR=${lua5_4}/include"
  ];

  doCheck = true;
  checkPhase = ''
    runHook preCheck
    echo 'assert(require("cjson").decode("[1.5]")[1] == 1.5)' | LUA_CPATH="$PWD/?.so" lua -
    runHook postCheck
  '';
}
