# The interpreter together with modules that it loads by name.
{
  stdenv,
  lua5_4,
  lua-cjson,
  lua-lpeg,
  lua-yaml,
  ...
}:

stdenv.mkDerivation {
  pname = "lua-env";
  inherit (lua5_4) version;
  dontUnpack = true;

  modules = [
    lua-cjson
    lua-lpeg
    lua-yaml
  ];
  installPhase = ''
    runHook preInstall
    mkdir -p "$out/bin"
    {
      echo "#!$SHELL"
      echo "export LUA_PATH='$(printf "%s/share/lua/5.4/?.lua;" $modules)$(printf "%s/share/lua/5.4/?/init.lua;" $modules)'"
      echo "export LUA_CPATH='$(printf "%s/lib/lua/5.4/?.so;" $modules)'"
      echo 'exec ${lua5_4}/bin/lua "$@"'
    } > "$out/bin/lua"
    chmod +x "$out/bin/lua"
    runHook postInstall
  '';

  passthru.programs = [
    {
      argv = [
        "bin/lua"
        "-"
      ];
      stdin = ''
        local json = require "cjson"
        print(json.encode { 1, "two", { three = 3.5 } })
        local re = require "re"
        print(re.match("a = 12", "{[a-z]+} %s* '=' %s* {[0-9]+}"))
        local yaml = require "lyaml"
        print(yaml.dump { { list = { 1, 2, 3 } } })
      '';
    }
  ];
}
