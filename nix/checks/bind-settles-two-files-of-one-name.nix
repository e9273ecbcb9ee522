# A program whose search path finds nothing and two inputs that both have the library: nobody guesses, hardenNeededBind says.
{
  library,
  stdenv,
  nixHardenNeeded,
  expect,
  fails,
}:
let
  first = library { name = "a"; };
  second = library {
    name = "a";
    attributes.version = "2";
    attributes.postInstall = "touch $out/second";
  };
  build =
    attributes:
    stdenv.mkDerivation (
      {
        name = "user";
        dontUnpack = true;
        nativeBuildInputs = [ nixHardenNeeded ];
        buildInputs = [
          first
          second
        ];
        NIX_DONT_SET_RPATH = true;
        buildPhase = ''
          runHook preBuild
          echo 'int answer_of_a(void); int main(void) { return answer_of_a() != 1; }' > main.c
          $CC main.c -o user -la
          runHook postBuild
        '';
        installPhase = ''
          runHook preInstall
          install -D -m 755 user "$out/bin/user"
          runHook postInstall
        '';
      }
      // attributes
    );
  bound = build { hardenNeededBind = [ "liba.so.1=${second}/lib/liba.so.1" ]; };
in
{
  works = expect "bind" ''
    tag NEEDED ${bound}/bin/user | grep -Fx ${second}/lib/liba.so.1
    ${bound}/bin/user
  '';
  unsaid-it-stays-bare = expect "no-guess" ''
    tag NEEDED ${build { }}/bin/user | grep -Fx liba.so.1
  '';
  unsaid-it-fails-a-strict-build = fails (build { hardenNeededStrict = true; }) [
    "liba.so.1 stays bare: two different files"
    "${first}/lib/liba.so.1 and ${second}/lib/liba.so.1"
  ];
}
