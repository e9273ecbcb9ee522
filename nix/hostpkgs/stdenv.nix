# `stdenv`: mkDerivation over setup.sh. The attributes that reach a build, and
# those that do not, are those of nixpkgs' generic/make-derivation.nix.
args@{
  lib,
  host,
  platform,
  # null for stdenvNoCC
  cc,
  # of the fixup phase; none in stdenvNoCC
  patchelf,
  # what `override` gives to change, as in nixpkgs
  name ? "stdenv-linux",
  mkDerivationFromStdenv ? null,
  overrides ? (_: _: { }),
  extraAttrs ? { },
}:
let
  inherit (host) bash;
  shell = "${bash}/bin/bash";

  initialPath = [
    host.coreutils
    host.findutils
    host.diffutils
    host.gnused
    host.gnugrep
    host.gawk
    host.gnutar
    host.gzip
    host.bzip2
    host.gnumake
    bash
    host.gnupatch
    host.xz
    host.file
  ];

  # In this order: that of their hooks is what a user's hook meets.
  defaultNativeBuildInputs =
    lib.optional (patchelf != null) patchelf
    ++ [
      ./hooks/symlinks.sh
      ./hooks/audit-tmpdir.sh
      ./hooks/move-directories.sh
      ./hooks/multiple-outputs.sh
      ./hooks/patch-shebangs.sh
      ./hooks/prune-libtool-files.sh
      ./hooks/reproducible-builds.sh
      ./hooks/strip.sh
    ]
    ++ lib.optional (cc != null) cc;

  setup = host.hostDerivation {
    pname = name;
    version = "host";
    inherit name;
    inherit shell initialPath defaultNativeBuildInputs;
    setup = ./setup.sh;
    script = ''
      mkdir "$out"
      {
        echo "export SHELL='$shell'"
        echo "initialPath='$initialPath'"
        echo "defaultNativeBuildInputs='$defaultNativeBuildInputs'"
        echo "defaultBuildInputs="
        echo 'export NIX_ENFORCE_PURITY="''${NIX_ENFORCE_PURITY-1}"'
        cat "$setup"
      } > "$out/setup"
    '';
  };

  dependencyAttrs = [
    "depsBuildBuild"
    "nativeBuildInputs"
    "depsBuildTarget"
    "depsHostHost"
    "buildInputs"
    "depsTargetTarget"
    "depsBuildBuildPropagated"
    "propagatedNativeBuildInputs"
    "depsBuildTargetPropagated"
    "depsHostHostPropagated"
    "propagatedBuildInputs"
    "depsTargetTargetPropagated"
  ];

  # A list in a list, a null: as in nixpkgs. Of a package with several outputs
  # it is the one for development.
  dependencies = list: map lib.getDev (builtins.filter (x: x != null) (lib.flatten list));

  # false is an empty string, so that `[ -z "$doCheck" ]` means what it says;
  # structured attributes know false themselves, and .attrs.sh writes it empty.
  derivationArgs =
    stdenv: attrs:
    let
      structured = attrs.__structuredAttrs or false;
      env = attrs.env or { };
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      kept = removeAttrs attrs [
        "meta"
        "passthru"
        "pos"
        "env"
        "__darwinAllowLocalNetworking"
        "disallowedReferences"
        "builder"
        "realBuilder"
        "args"
        # no configure script is told of platforms here
        "configurePlatforms"
      ];
      clash = builtins.attrNames (builtins.intersectAttrs env kept);
    in
    assert lib.assertMsg (
      structured || clash == [ ]
    ) "mkDerivation ${name}: both in env and an attribute: ${toString clash}";
    kept
    // lib.genAttrs dependencyAttrs (attr: dependencies (attrs.${attr} or [ ]))
    // {
      inherit name;
      inherit (platform) system;
      builder = attrs.realBuilder or shell;
      args =
        attrs.args or [
          "-e"
          ./builder.sh
          (attrs.builder or ./default-builder.sh)
        ];
      inherit stdenv;
      userHook = null;
      __ignoreNulls = true;
      outputs = attrs.outputs or [ "out" ];
      strictDeps = attrs.strictDeps or false;
      doCheck = attrs.doCheck or false;
      doInstallCheck = attrs.doInstallCheck or false;
      configureFlags = attrs.configureFlags or [ ];
      patches = attrs.patches or [ ];
    }
    // lib.optionalAttrs (attrs ? disallowedReferences) { inherit (attrs) disallowedReferences; }
    // (if structured then { inherit env; } else env);

  # The package: the derivation, its outputs, its meta and passthru.
  fromAttrs =
    stdenv: attrs: overrideAttrs:
    let
      args = derivationArgs stdenv attrs;
      drv = derivation args;
      common =
        removeAttrs attrs [
          "env"
          "args"
          "builder"
        ]
        // lib.genAttrs dependencyAttrs (attr: args.${attr})
        // outputs
        // {
          inherit (drv) drvPath type all;
          inherit (args)
            name
            system
            builder
            args
            outputs
            ;
          inherit overrideAttrs stdenv;
          drvAttrs = args;
          passthru = attrs.passthru or { };
          meta = {
            available = true;
            inherit (args) name;
            outputsToInstall = [ (builtins.head args.outputs) ];
          }
          // attrs.meta or { };
        }
        // attrs.passthru or { };
      outputs = lib.genAttrs args.outputs (
        output:
        common
        // {
          inherit (drv.${output}) outPath;
          outputName = output;
          outputSpecified = true;
        }
      );
    in
    common
    // {
      inherit (drv) outPath outputName;
    };

  # mkDerivation { … } or mkDerivation (finalAttrs: { … })
  mkDerivation =
    stdenv: attrsOrFunction:
    let
      asFunction = lib.toFunction attrsOrFunction;
      build =
        f:
        let
          attrs = f (attrs // { finalPackage = package; overrideAttrs = overrideAttrs; });
          # overrideAttrs { … }, (old: { … }) or (final: old: { … })
          overrideAttrs =
            change:
            build (
              final:
              let
                old = f final;
                first = if lib.isFunction change then change old else change;
                # one argument or two: a set or a function comes back
                new = if lib.isFunction first then change final old else first;
              in
              old // new
            );
          package = fromAttrs stdenv attrs overrideAttrs;
        in
        package;
    in
    build asFunction;

  withDefault = {
    mkDerivationFromStdenv = mkDerivation;
  }
  // args;
  stdenv = setup // {
    mkDerivation = withDefault.mkDerivationFromStdenv stdenv;
    inherit
      cc
      overrides
      shell
      initialPath
      defaultNativeBuildInputs
      ;
    inherit (platform) system isLinux isDarwin;
    hasCC = cc != null;
    hostPlatform = platform;
    buildPlatform = platform;
    targetPlatform = platform;
    extraNativeBuildInputs = [ ];
    override = change: import ./stdenv.nix (args // lib.toFunction change withDefault);
  }
  // extraAttrs;
in
stdenv
