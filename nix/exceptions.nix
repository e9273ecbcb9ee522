# What stays as it is where a whole package set is hardened. `matches` sees the attributes of mkDerivation, with `pname` in
# any case and the `stdenv` that is to build it; `attributes` are functions that a hardened set takes from the set without
# hardening, and all that they build with them. docs/interfaces.md has the same rows.
{ lib }:
let
  isSet = value: value != null && value != false && value != "";
  anyOf = names: attrs: lib.elem attrs.pname names;
in
[
  {
    name = "asked for";
    reason = "the derivation sets dontHardenNeeded";
    matches = attrs: isSet (attrs.dontHardenNeeded or attrs.env.dontHardenNeeded or null);
  }
  {
    name = "fixed output";
    reason = "its hash is known beforehand, so nothing in it may change, and what fetches sources must not wait for the hook";
    matches = attrs: attrs.outputHash or null != null;
    attributes = [
      "fetchgit"
      "fetchpatch"
      "fetchurl"
      "fetchzip"
    ];
  }
  {
    name = "no fixup phase";
    reason = "the hook would never run, and would only be one more input";
    matches = attrs: isSet (attrs.buildCommand or null) || isSet (attrs.dontFixup or null);
  }
  {
    name = "no compiler";
    reason = "stdenvNoCC links nothing: it builds fonts, data, scripts and wrappers, and unpacks what others have linked";
    matches = attrs: !(attrs.stdenv.hasCC or true);
  }
  {
    name = "bootstrap";
    reason = "the stages before the last build the compiler and the C library, which would be built twice; the last takes some of theirs over";
    matches = attrs: lib.hasPrefix "bootstrap-" (attrs.stdenv.name or "");
  }
  {
    name = "C library";
    reason = "it brings the loader, which knows its parts by their bare names, and everything depends on it";
    matches = anyOf [
      "glibc"
      "glibc-gd"
      "glibc-nolibgcc"
      "musl"
      "uclibc-ng"
    ];
  }
  {
    name = "compiler";
    reason = "its runtimes are opened by their bare names (libgcc_s.so.1) and copied into what it links, and it takes hours to build";
    matches =
      attrs:
      anyOf [
        "clang"
        "compiler-rt"
        "compiler-rt-libc"
        "compiler-rt-no-libc"
        "gcc"
        "gfortran"
        "gnat"
        "libcxx"
        "libgcc"
        "libllvm"
        "lld"
        "llvm"
        "rustc"
        "rustc-bootstrap"
      ] attrs
      # "aarch64-unknown-linux-gnu-gcc"
      || lib.hasSuffix "-gcc" attrs.pname;
  }
  {
    name = "FHS environment";
    reason = "foreign programs in it look for bare names, and its ldconfig lists no library whose SONAME is a path";
    matches = _: false;
    attributes = [
      "buildFHSEnv"
      "buildFHSEnvBubblewrap"
      "buildFHSEnvChroot"
    ];
  }
  {
    name = "foreign binaries";
    reason = "somebody else has linked them: names may be missing, data may be appended, and a signature may cover them";
    matches =
      attrs: lib.any (type: type.shortName or null == "binaryNativeCode") (attrs.meta.sourceProvenance or [ ]);
  }
]
