# The upstream source that a source.json names. fetch.py puts it into the store;
# nothing is fetched by a build.
{ system }:
file:
let
  pin = builtins.fromJSON (builtins.readFile file);
in
derivation {
  name = pin.file;
  inherit system;
  outputHashMode = "flat";
  outputHashAlgo = "sha256";
  outputHash = pin.sha256;
  preferLocalBuild = true;
  builder = "/bin/sh";
  args = [
    "-c"
    "echo '${pin.file} is not in the store: run nix/distro/fetch.py, which gets it by apt' >&2; exit 1"
  ];
}
// {
  inherit (pin) version;
}
