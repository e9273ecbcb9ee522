{
  description = "Enough of nixpkgs' interface, on the host's own toolchain, to build and check this project offline";

  outputs =
    { self }:
    {
      lib = import ./lib.nix;
      legacyPackages.x86_64-linux = import ./. { system = "x86_64-linux"; };
    };
}
