# The program, for people or for the hook. Its Python starts isolated: what a build sets in PYTHONPATH is not for it.
{
  lib,
  stdenv,
  python3,
  patchelf,
  # with what draws, fills in templates, completes in shells and explains; a build needs nothing of it
  forPeople ? true,
}:
let
  python = python3.withPackages (
    packages:
    [ packages.pyelftools ]
    ++ lib.optionals forPeople [
      packages.jinja2
      packages.rich
    ]
    # reads instructions, for `nix-harden diff`
    ++ lib.optionals (forPeople && packages ? iced-x86) [ packages.iced-x86 ]
  );
  # what makes completions and the man page, and is not needed afterwards
  shell = python3.withPackages (packages: [
    packages.shtab
    packages.argparse-manpage
  ]);
  wanted =
    root: path:
    let
      name = lib.removePrefix (toString root + "/") (toString path);
    in
    lib.any (top: name == top || lib.hasPrefix (top + "/") name) [
      "nix_harden"
      "hooks"
    ]
    # what was compiled where this is developed is not what is compiled below
    && !lib.elem (baseNameOf path) [
      "__pycache__"
      "compiled"
    ];
in
stdenv.mkDerivation {
  pname = "nix-harden";
  version = builtins.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../nix_harden/__init__.py)
  );

  src = builtins.path {
    name = "nix-harden-source";
    path = ./..;
    filter = path: _: wanted ./.. path;
  };

  strictDeps = true;
  nativeBuildInputs = [ python ];
  dontConfigure = true;
  dontBuild = true;

  installPhase = ''
    runHook preInstall
    library=$out/lib/nix-harden
    mkdir -p "$library" "$out/bin"
    cp -r nix_harden hooks "$library"
  ''
  + lib.optionalString (stdenv.hostPlatform.isx86_64 || stdenv.hostPlatform.isAarch64) ''
    # what nixpkgs gives linkers would lead back to this package; -P: the program that is installed, not that of the source
    NIX_LDFLAGS= NIX_DONT_SET_RPATH=1 PYTHONPATH=$library PYTHONDONTWRITEBYTECODE=1 python3 -P -m nix_harden.native.compile "$CC"
  ''
  + ''
    python3 -m compileall -q --invalidation-mode unchecked-hash "$library/nix_harden"
    cat > "$out/bin/nix-harden" <<END
    #!${python}/bin/python3 -I
    import os
    import sys

    sys.path.insert(0, "$library")
    os.environ.setdefault("NIX_HARDEN_PATCHELF", "${patchelf}/bin/patchelf")

    from nix_harden.cli import main

    main()
    END
    chmod +x "$out/bin/nix-harden"
  ''
  + lib.optionalString forPeople ''
    PYTHONPATH=$library PYTHONDONTWRITEBYTECODE=1 ${shell}/bin/python3 -m nix_harden.packaging.shell "$out/share"
  ''
  + ''
    runHook postInstall
  '';

  doInstallCheck = true;
  installCheckPhase = ''
    runHook preInstallCheck
    "$out/bin/nix-harden" --version
    runHook postInstallCheck
  '';

  meta = {
    description = "Bind the shared libraries of a derivation by absolute store path";
    license = lib.licenses.mit;
    mainProgram = "nix-harden";
  };
}
