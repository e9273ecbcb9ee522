# What `stdenv.hostPlatform` says of the one kind of platform that hostpkgs
# builds on and for.
system:
let
  cpu = builtins.head (builtins.split "-" system);
in
assert
  system == "x86_64-linux"
  || throw "hostpkgs knows the toolchain of x86_64-linux only, not that of ${system}";
{
  inherit system;
  config = "${cpu}-unknown-linux-gnu";
  parsed = {
    cpu.name = cpu;
    kernel.name = "linux";
    abi.name = "gnu";
  };
  libc = "glibc";
  linker = "bfd";
  isLinux = true;
  isUnix = true;
  isElf = true;
  isGnu = true;
  is64bit = true;
  is32bit = false;
  isx86_64 = true;
  isx86 = true;
  isAarch64 = false;
  isLittleEndian = true;
  isBigEndian = false;
  isDarwin = false;
  isMusl = false;
  isStatic = false;
  isWindows = false;
  isCygwin = false;
  hasSharedLibraries = true;
  canExecute = other: other.system == system;
  emulatorAvailable = _: true;
  extensions = {
    sharedLibrary = ".so";
    staticLibrary = ".a";
    executable = "";
  };
}
