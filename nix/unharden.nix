# The way back, for what copies libraries by their bare names or overwrites store paths: scripted initrds, bundles. The
# result has the outputs of `drv`, with bare names and search paths; hardened libraries of other packages that they need lie
# in lib/unhardened of the output `lib`, or of the first.
{
  lib,
  callPackage,
  nix-harden,
}:
drv:
let
  outputs = drv.outputs or [ "out" ];
  libOutput = if lib.elem "lib" outputs then "lib" else lib.head outputs;
in
callPackage ./edited.nix { } drv {
  passthru.hardened = drv;
  commands = ''${nix-harden}/bin/nix-harden unharden --carry "''$${libOutput}/lib/unhardened" "''${places[@]}"'';
}
