{
  description = "Bind the shared libraries of a Nix derivation by absolute store path";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-unstable";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      # The platforms with ELF, as far as this nixpkgs has them.
      systems = builtins.filter (system: nixpkgs.legacyPackages ? ${system}) [
        "x86_64-linux"
        "aarch64-linux"
        "i686-linux"
        "armv7l-linux"
        "powerpc64le-linux"
        "riscv64-linux"
      ];
      forEach = make: lib.genAttrs systems (system: make system nixpkgs.legacyPackages.${system});
      project = pkgs: import ./default.nix { inherit pkgs; };
    in
    {
      packages = forEach (
        system: pkgs:
        let
          inherit (project pkgs) nix-harden nixHardenNeeded;
        in
        {
          default = nix-harden;
          inherit nix-harden nixHardenNeeded;
          # All of `checks` in one, for `nix build .#checks`.
          checks = pkgs.linkFarm "nix-harden-needed-checks" (
            lib.mapAttrsToList (name: path: { inherit name path; }) self.checks.${system}
          );
        }
      );

      checks = forEach (_: pkgs: (project pkgs).checks);

      overlays = {
        default = import ./nix/overlay.nix;
        everything = self.lib.hardenEverything { };
      };

      nixosModules.default = import ./nix/module.nix self.lib;

      lib = import ./nix/harden.nix {
        inherit lib;
        hookFor =
          package:
          self.packages.${package.system}.nixHardenNeeded
            or (throw "nix-harden-needed: ${package.name} is built on ${package.system}, for which there is no hook");
      };

      apps = forEach (
        _: pkgs: {
          default = {
            type = "app";
            program = "${(project pkgs).nix-harden}/bin/nix-harden";
          };
        }
      );

      # What the tests and linters need, as far as this package set has it.
      devShells = forEach (
        _: pkgs: {
          default = pkgs.mkShell {
            inputsFrom = [ (project pkgs).nix-harden ];
            packages = map (name: pkgs.${name}) (
              builtins.filter (name: pkgs ? ${name}) [
                "mypy"
                "nixfmt"
                "ruff"
                "shellcheck"
                "strace"
              ]
            );
          };
        }
      );

      formatter = lib.filterAttrs (_: tool: tool != null) (forEach (_: pkgs: pkgs.nixfmt or null));
    };
}
