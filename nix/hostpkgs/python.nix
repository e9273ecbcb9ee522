# The host's python3 as a virtual environment in the store, with the packages
# that this project depends on, unpacked from their source distributions.
{
  lib,
  host,
  fetchPypi,
}:
let
  inherit (host) hostDerivation;
  # Debian 12's
  pythonVersion = "3.11";
  sitePackages = "lib/python${pythonVersion}/site-packages";

  # All are pure Python, or (markupsafe) do without their compiled half.
  pythonPackage =
    {
      pname,
      version,
      hash,
      # what to take out of the distribution
      tree,
      dependencies ? [ ],
    }:
    hostDerivation {
      name = "python${pythonVersion}-${pname}-${version}";
      inherit pname version tree;
      src = fetchPypi { inherit pname version hash; };
      inherit sitePackages;
      script = ''
        mkdir source
        tar xf "$src" -C source --strip-components=1
        mkdir -p "$out/$sitePackages"
        cp -r source/$tree "$out/$sitePackages/"
        info=$out/$sitePackages/$pname-$version.dist-info
        mkdir "$info"
        cp source/PKG-INFO "$info/METADATA"
        printf 'hostpkgs\n' > "$info/INSTALLER"
        # or a Python that runs as root and without a sandbox would add its own to the store path
        /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "$out/$sitePackages"
      '';
      passthru = { inherit dependencies; };
    };

  packages = rec {
    inherit python;
    markupsafe = pythonPackage {
      pname = "markupsafe";
      version = "3.0.3";
      hash = "sha256-ciaVgI9LZFezIP3BMSgHlr3OsEq1D+F5XNVAeZ6+Fpg=";
      tree = "src/markupsafe";
    };
    jinja2 = pythonPackage {
      pname = "jinja2";
      version = "3.1.6";
      hash = "sha256-ATf7BZkNNfEnWlh+mu5tVtqCH8g0kaD7g4GDvkP2bW0=";
      tree = "src/jinja2";
      dependencies = [ markupsafe ];
    };
    # without what it highlights and renders Markdown with, which it imports where that is asked for
    rich = pythonPackage {
      pname = "rich";
      version = "15.0.0";
      hash = "sha256-7dB6SCTGtAGJ+3rJvExSU26XgPu/vd9vHiUCwxsGjDY=";
      tree = "rich";
    };
    pyelftools = pythonPackage {
      pname = "pyelftools";
      version = "0.33";
      hash = "sha256-Zg2C3L646D0XAr2X8iP3YWJdoGERwMyYjqxrirDBth8=";
      tree = "elftools";
    };
    shtab = pythonPackage {
      pname = "shtab";
      version = "1.13.0";
      hash = "sha256-Clvp16srRUnpo4JSq81ez17GgT7NgMawb6hRv/VaUIU=";
      tree = "shtab";
    };
    argparse-manpage = pythonPackage {
      pname = "argparse_manpage";
      version = "4.8";
      hash = "sha256-1VzhwkZHnd2ChxFwqMxUOmgxu2jIeimOR/BmOpMwt08=";
      tree = "argparse_manpage";
    };
  };

  closure =
    list: lib.unique (lib.concatMap (package: [ package ] ++ closure package.dependencies) list);

  environment =
    list:
    let
      self = build list self;
    in
    self;
  build =
    list: self:
    hostDerivation {
      pname = "python3";
      version = pythonVersion;
      name = "python3-${pythonVersion}${lib.optionalString (list != [ ]) "-env"}";
      packages = closure list;
      inherit sitePackages;
      setupHook = ./hooks/python.sh;
      script = ''
        mkdir -p "$out/bin" "$out/$sitePackages" "$out/nix-support"
        # Not `version = …`, which differs from host to host
        printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > "$out/pyvenv.cfg"
        ln -s /usr/bin/python3 "$out/bin/python3"
        ln -s python3 "$out/bin/python"
        ln -s python3 "$out/bin/python${pythonVersion}"
        for package in $packages; do
          ln -s "$package/$sitePackages"/* "$out/$sitePackages/"
        done
        cp "$setupHook" "$out/nix-support/setup-hook"
      '';
      passthru = rec {
        inherit sitePackages pythonVersion;
        interpreter = "${self}/bin/python3";
        executable = "python3";
        libPrefix = "python${pythonVersion}";
        pythonAtLeast = lib.versionAtLeast pythonVersion;
        pythonOlder = lib.versionOlder pythonVersion;
        pkgs = packages;
        withPackages = f: environment (f packages);
        meta.mainProgram = "python3";
      };
    };
  python = environment [ ];
in
python
