# The hook of a hardened set, and so all that it is made of, is that of the plain set: it neither needs itself nor has a hash
# that no cache knows. The set without hardening is there by name; FHS environments and what fetches sources are made of it.
{
  pkgs,
  harden,
  nixHardenNeeded,
  supportIn,
  expect,
  same,
  differ,
}:
let
  withShell = pkgs.extend (
    final: _: {
      buildFHSEnv = _: appOf final;
      fetchurl = _: appOf final;
    }
  );
  everything = withShell.extend (harden.hardenEverything { });
  replaced = (harden.hardenStdenv withShell).overrides { } withShell;
  part = withShell.extend (
    final: prev: harden.hardenPackages [ "python3" ] final (prev // { python3 = python final; })
  );
  python =
    set:
    set.stdenv.mkDerivation { name = "python3"; }
    // {
      inherit (pkgs.python3) withPackages;
    };
  # that of the plain set, in the mode of a whole one
  plain = nixHardenNeeded.override { mode = "needed"; };
  hookIn = set: (import ../packages.nix set).nixHardenNeeded.override { mode = "needed"; };
  appOf = set: ((supportIn set).chain { }).program';
in
{
  works = same everything.nixHardenNeeded plain;
  in-a-stdenv-alone = same replaced.nixHardenNeeded plain;
  made-of-hardened-packages-it-is-another = differ (hookIn everything) plain;
  where-a-part-is-hardened-that-it-is-made-of = expect "part" ''
    [[ "${part.python3.hardenNeeded.mode}" == soname ]]
  '';
  the-set-without-hardening = same (appOf everything.unhardened) (appOf pkgs);
  the-set-without-hardening-has-itself = same (appOf everything.unhardened.unhardened) (appOf pkgs);
  the-set-with-it = differ (appOf everything) (appOf pkgs);
  fhs-environments = same (everything.buildFHSEnv { }) (appOf pkgs);
  fetchers = same (everything.fetchurl { }) (appOf pkgs);
  fhs-environments-of-a-stdenv-alone = same (replaced.buildFHSEnv { }) (appOf pkgs);
}
