# C++ with exceptions across libraries: the runtime's own SONAME is nobody's to change, its users' NEEDED are bound.
{ stdenv, nixHardenNeeded, expect }:
let
  build =
    hooks:
    stdenv.mkDerivation {
      name = "thrower";
      dontUnpack = true;
      nativeBuildInputs = hooks;
      buildPhase = ''
        runHook preBuild
        cat > throw.cc <<END
        #include <stdexcept>
        void thrower(int n) { throw std::runtime_error("thrown " + std::to_string(n)); }
        END
        cat > main.cc <<END
        #include <iostream>
        #include <stdexcept>
        void thrower(int);
        int main() { try { thrower(3); } catch (const std::exception &e) { std::cout << e.what() << std::endl; } }
        END
        $CXX -shared -fPIC throw.cc -o libthrower.so -Wl,-soname,libthrower.so
        $CXX main.cc -o thrower -L. -lthrower
        runHook postBuild
      '';
      installPhase = ''
        runHook preInstall
        install -D -m 755 libthrower.so "$out/lib/libthrower.so"
        install -D -m 755 thrower "$out/bin/thrower"
        runHook postInstall
      '';
    };
  hardened = build [ nixHardenNeeded ];
  plain = build [ ];
in
{
  works = expect "c-plus-plus" ''
    prints "thrown 3" ${hardened}/bin/thrower
    [[ -z $(tag NEEDED ${hardened}/bin/thrower | grep -v ^/) ]]
    [[ $(tag NEEDED ${hardened}/bin/thrower | grep libstdc++) == /*/libstdc++.so.6 ]]
  '';
  without-the-hook-it-prints-the-same = expect "c-plus-plus-plain" ''
    prints "thrown 3" ${plain}/bin/thrower
    [[ $(tag NEEDED ${plain}/bin/thrower | grep libstdc++) == libstdc++.so.6 ]]
  '';
}
