# hardenPackages gives the hook to the packages that it names, and leaves every other one the derivation that it was but for
# what they are built from. hardenPackage does so for one derivation.
{
  pkgs,
  harden,
  chainOverlay,
  expect,
  same,
  differ,
}:
let
  withChain = pkgs.extend chainOverlay;
  part = withChain.extend (harden.hardenPackages [ "libb" ]);
  inNeededMode = withChain.extend (
    (harden.withOptions { mode = "needed"; }).hardenPackages [ "libb" ]
  );
  one = harden.hardenPackage withChain.libb;
in
{
  works = expect "part" ''
    [[ $(tag SONAME ${part.libb}/lib/libb.so.1) == ${part.libb}/lib/libb.so.1 ]]
    tag NEEDED ${part.libb}/lib/libb.so.1 | grep -Fx ${part.liba}/lib/liba.so.1
    searches 1 ${part.app}/bin/app
    prints 2 ${part.app}/bin/app
  '';
  others-are-the-plain-packages = same part.liba withChain.liba;
  what-is-built-from-it-is-not = differ part.app withChain.app;
  one-package-is-the-same-as-in-a-set = same one part.libb;
  one-package-keeps-what-it-has = expect "passthru" ''
    [[ "${one.library}" == b && "${one.hardenNeeded.mode}" == soname ]]
    [[ "${toString (one.outputs or [ ])}" == "${toString withChain.libb.outputs}" ]]
  '';
  in-a-stage-that-builds-the-stdenv-nothing-is =
    let
      stdenv = pkgs.stdenv.override { name = "bootstrap-stage1-stdenv-linux"; };
      early = harden.hardenPackages [ "liba" ] (throw "the set that is to be") (
        withChain // { inherit stdenv; }
      );
    in
    expect "early" ''[[ "${toString (builtins.attrNames early)}" == "" ]]'';
  in-mode-needed = expect "needed" ''
    [[ $(tag SONAME ${inNeededMode.libb}/lib/libb.so.1) == libb.so.1 ]]
    tag NEEDED ${inNeededMode.libb}/lib/libb.so.1 | grep -Fx ${inNeededMode.liba}/lib/liba.so.1
  '';
}
