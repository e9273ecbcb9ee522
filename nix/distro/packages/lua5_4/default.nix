{
  stdenv,
  source,
  readline,
}:

stdenv.mkDerivation {
  pname = "lua";
  inherit (source) version;
  src = source;

  buildInputs = [ readline ];

  # Modules are looked for in the prefix that is compiled in.
  postPatch = ''
    substituteInPlace src/luaconf.h --replace-fail /usr/local/ "$out/"
  '';

  # Upstream's makefile knows a static library only. luac needs what a shared
  # one hides.
  enableParallelBuilding = true;
  buildFlags = [ "linux-readline" ];
  preBuild = ''
    makeFlagsArray+=(
      CC="$CC -std=gnu99"
      MYCFLAGS=-fPIC
      LUA_A=liblua.so.5.4
      AR="$CC -shared -Wl,-soname,liblua.so.5.4 -o"
      RANLIB=true
      ALL_T="liblua.so.5.4 lua"
    )
  '';
  preInstall = ''
    makeFlagsArray+=(INSTALL_TOP="$out" TO_BIN=lua TO_LIB=liblua.so.5.4)
  '';
  postInstall = ''
    ln -s liblua.so.5.4 "$out/lib/liblua.so"
  '';

  passthru.programs = [
    {
      argv = [
        "bin/lua"
        "-"
      ];
      stdin = ''
        for word in ("a bc def"):gmatch("%a+") do print(#word, word:upper()) end
      '';
    }
  ];
}
