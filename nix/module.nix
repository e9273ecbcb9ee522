# A NixOS system of hardened packages. `harden` is what nix/harden.nix gives.
#
# Driver libraries need nothing: their names stay bare in every mode, so that what /run/opengl-driver brings takes their
# place, and a driver is opened by its file.
harden:
{
  config,
  options,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.hardenNeeded;
in
{
  options.hardenNeeded = {
    enable = lib.mkEnableOption "absolute store paths as the names of shared libraries, in every package";
    mode = lib.mkOption {
      type = lib.types.enum harden.modes;
      default = harden.modeOfSet;
      description = ''
        What becomes absolute: with `needed` every NEEDED, with `soname` every library's SONAME, too. A plugin of another build
        (NSS, PAM, GIO, GStreamer, VST, LADSPA, a browser's) shares a loaded library by its SONAME: with `soname` it gets a copy
        of its own, or none, unless `except` names the package of that library.
      '';
    };
    except = lib.mkOption {
      type = lib.types.listOf lib.types.raw;
      default = [ ];
      description = "What stays as it is: names of packages, and predicates on the attributes of mkDerivation.";
    };
    prelink = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      default = [ ];
      example = [ "inkscape" ];
      description = ''
        Packages whose finished programs are prelinked, whether or not packages are hardened: their loader looks up no symbols at start.
        What is built with such a package is built again, so choose leaves.
      '';
    };
  };

  config = lib.mkMerge [
    {
      nixpkgs.overlays =
        lib.optional cfg.enable (harden.hardenEverything { inherit (cfg) mode except; })
        ++ lib.optional (cfg.prelink != [ ]) (harden.prelinkPackages cfg.prelink);
    }
    (lib.mkIf cfg.enable {
      # A scripted initrd copies programs, then runs these commands, then copies the libraries that it finds by joining
      # directories and names, and overwrites every hash. So this is the last command.
      boot.initrd = lib.optionalAttrs (options ? boot.initrd.extraUtilsCommands) {
        extraUtilsCommands = lib.mkOrder 10000 ''
          ${pkgs.nixHardenNeeded.nix-harden}/bin/nix-harden unharden --carry $out/lib $out
        '';
      };
    })
  ];
}
