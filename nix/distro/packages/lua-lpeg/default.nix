{
  stdenv,
  source,
  lua5_4,
}:

stdenv.mkDerivation {
  pname = "lua-lpeg";
  inherit (source) version;
  src = source;

  buildInputs = [ lua5_4 ];

  preBuild = ''
    makeFlagsArray+=(CC="$CC" LUADIR=${lua5_4}/include)
  '';
  buildFlags = [ "linux" ];

  doCheck = true;

  installPhase = ''
    runHook preInstall
    install -D lpeg.so -t "$out/lib/lua/5.4"
    install -D -m 644 re.lua -t "$out/share/lua/5.4"
    runHook postInstall
  '';
}
