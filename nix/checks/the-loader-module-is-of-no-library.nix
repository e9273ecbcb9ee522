# What is compiled into nix-harden for prelinked programs needs nothing, is searched for by no name and refers to nothing, also where
# nix-harden is hardened itself; and it is that of this machine alone.
{
  nix-harden,
  nixHardenNeeded,
  everything,
  stdenv,
  wide,
  lib,
  expect,
}:
let
  forBuilds = nix-harden.override { forPeople = false; };
  hardened = everything.nix-harden;
  machine = if stdenv.hostPlatform.isAarch64 then "EM_AARCH64" else "EM_X86_64";
  plain = wide.programOf { };
in
{
  works = expect "module" (
    ''
      [[ ${hardened.hardenNeeded.mode} == needed ]]
    ''
    + lib.concatMapStrings (program: ''
      compiled=${program}/lib/nix-harden/nix_harden/native/compiled
      [[ $(ls -A $compiled) == "${machine}.module.so"$'\n'"${machine}.start" ]] || fail "$(ls -A $compiled)"
      for file in $compiled/*; do
        for name in NEEDED SONAME RUNPATH RPATH; do
          [[ -z $(tag $name $file) ]] || fail "$name $(tag $name $file)"
        done
        if grep -aF "$NIX_STORE" $file; then fail "$file refers to something"; fi
      done
      mkdir -p $out/bin
      cp ${plain}/bin/app $out/bin
      ${program}/bin/nix-harden prelink-outputs $out
      prints 3000 $out/bin/app
      prelinked $out/bin/app
      rm -r $out
    '') [ nix-harden forBuilds hardened ]
  );
  the-hook-has-that-for-builds = expect "hook" "grep -F ${forBuilds}/bin/nix-harden ${nixHardenNeeded}/nix-support/setup-hook";
}
