# A small nixpkgs on the host's own tools: see README.md.
{
  system ? "x86_64-linux",
  overlays ? [ ],
  # of nixpkgs' settings only replaceStdenv
  config ? { },
  localSystem ? null,
}:
let
  lib = import ./lib.nix;
  platform = import ./platform.nix system;

  packages =
    final:
    let
      inherit (final) callPackage;
      host = import ./host.nix { inherit lib system; };
      toolchain = callPackage ./toolchain.nix { inherit host; };
      buildTools = callPackage ./build-tools.nix { inherit host; };
      mkStdenv =
        cc: patchelf:
        import ./stdenv.nix {
          inherit
            lib
            host
            platform
            cc
            patchelf
            ;
        };
      trivial = callPackage ./trivial.nix { };
    in
    {
      inherit lib system overlays config;
      pkgs = final;
      callPackage = lib.callPackageWith final;
      newScope = extra: lib.callPackageWith (final // extra);
      extend =
        overlay:
        import ./. {
          inherit system config;
          overlays = overlays ++ [ overlay ];
        };
      appendOverlays =
        more:
        import ./. {
          inherit system config;
          overlays = overlays ++ more;
        };
      buildPackages = final;
      pkgsBuildHost = final;
      targetPackages = final;

      stdenv =
        if config ? replaceStdenv then
          config.replaceStdenv {
            pkgs = import ./. {
              inherit system overlays;
              config = removeAttrs config [ "replaceStdenv" ];
            };
          }
        else
          mkStdenv final.gcc toolchain.patchelf;
      stdenvNoCC = mkStdenv null toolchain.patchelf;

      gcc = toolchain.cc;
      inherit (toolchain)
        binutils-unwrapped
        gcc-unwrapped
        glibc
        libgcc
        patchelf
        ;
      binutils = toolchain.bintools;

      inherit (host)
        bash
        bzip2
        coreutils
        diffutils
        file
        findutils
        gawk
        gnugrep
        gnumake
        gnupatch
        gnused
        gnutar
        gzip
        shellcheck
        strace
        which
        xz
        ;
      inherit (buildTools)
        autoreconfHook
        cmake
        gettext
        gnum4
        meson
        ninja
        pkg-config
        tcl
        ;
      bashInteractive = host.bash;
      bashNonInteractive = host.bash;

      fetchPypi = callPackage ./fetchpypi.nix { inherit host; };
      python3 = callPackage ./python.nix { inherit host; };
      python3Packages = final.python3.pkgs;
      testers = callPackage ./testers.nix { };

      inherit (trivial)
        emptyDirectory
        emptyFile
        linkFarm
        makeSetupHook
        mkShell
        replaceVars
        replaceVarsWith
        runCommand
        runCommandCC
        runCommandLocal
        runCommandWith
        runtimeShell
        symlinkJoin
        writeScript
        writeShellScript
        writeShellScriptBin
        writeText
        writeTextDir
        writeTextFile
        ;

    };
in
lib.fix (
  lib.foldl' (f: overlay: lib.extends overlay f) packages (
    # as in nixpkgs, what a stdenv brings comes last
    overlays ++ [ (final: prev: prev.stdenv.overrides final prev) ]
  )
)
