# What packages of other build systems than plain make are built with: the
# host's tools, kept from finding what lies in the host's /usr.
{
  lib,
  host,
  glibc,
}:
let
  inherit (host) bash copyPrograms hostDerivation;

  # Programs that read files of their own in /usr/share, by paths that are
  # compiled in: links, as a copy would be no more of the store than they are.
  linkPrograms =
    {
      pname,
      programs,
      setupHook ? null,
    }:
    hostDerivation {
      inherit pname setupHook;
      __ignoreNulls = true;
      version = "host";
      script = ''
        mkdir -p "$out/bin"
        for program in ${toString programs}; do
          ln -s "$(type -P "$program")" "$out/bin/$program"
        done
        if [ -n "''${setupHook-}" ]; then
          mkdir "$out/nix-support"
          cp "$setupHook" "$out/nix-support/setup-hook"
        fi
      '';
    };
in
rec {
  # A copy of all of it, since it looks for its modules beside itself; they name
  # the C library in the store where they name /usr.
  cmake = hostDerivation {
    pname = "cmake";
    version = "host";
    inherit glibc;
    glibcDev = glibc.dev;
    setupHook = ./hooks/cmake.sh;
    script = ''
      mkdir -p "$out/bin" "$out/share" "$out/nix-support"
      cp /usr/bin/cmake /usr/bin/ctest "$out/bin"
      cp -r /usr/share/cmake-*.* "$out/share"
      chmod -R u+w "$out/share"
      sed -i \
        -e '/^ *\/usr\/local \/usr \/$/d' -e '/^ *\/usr\/X11R6$/d' -e '/^ *\/usr\/pkg$/d' -e '/^ *\/opt$/d' \
        -e "s,/usr/include/X11$,$glibcDev/include," -e "s,/usr/lib/X11$,$glibc/lib," \
        -e "s,/lib /lib32 /lib64 /usr/lib /usr/lib32 /usr/lib64$,$glibc/lib," \
        -e "s,\"[^\"]*/usr/include\",\"$glibcDev/include\"," \
        "$out"/share/cmake-*/Modules/Platform/UnixPaths.cmake
      cp "$setupHook" "$out/nix-support/setup-hook"
    '';
  };

  # On install, meson takes every directory of an external library out of
  # RUNPATH, and leaves the end of a longer one behind the new one; nixpkgs'
  # meson is patched in both.
  meson = hostDerivation {
    pname = "meson";
    version = "host";
    setupHook = ./hooks/meson.sh;
    script = ''
      modules=$(/usr/bin/python3 -Ic 'import mesonbuild; print(mesonbuild.__path__[0])')
      mkdir -p "$out/bin" "$out/lib" "$out/nix-support"
      cp -r "$modules" "$out/lib/mesonbuild"
      rm -rf "$out/lib/mesonbuild/__pycache__"
      sed -i \
        -e 's/^\( *\)self\.bf\.write(new_rpath)$/\1self.bf.write(new_rpath.ljust(len(old_rpath), b"\\0"))/' \
        -e 's/\brpath_dirs_to_remove\b: T\.Set\[bytes\], new_rpath: bytes) -> None:$/&\
              rpath_dirs_to_remove = {d for d in rpath_dirs_to_remove if not d.startswith(b"\/nix\/store\/")}/' \
        "$out/lib/mesonbuild/scripts/depfixer.py"
      /usr/bin/python3 -m compileall -q --invalidation-mode unchecked-hash "$out/lib/mesonbuild"
      cat > "$out/bin/meson" <<END
      #!/usr/bin/python3 -I
      import sys

      sys.path.insert(0, "$out/lib")
      from mesonbuild.mesonmain import main

      sys.exit(main())
      END
      chmod 755 "$out/bin/meson"
      cp "$setupHook" "$out/nix-support/setup-hook"
    '';
  };

  ninja = hostDerivation {
    pname = "ninja";
    version = "host";
    setupHook = ./hooks/ninja.sh;
    script = ''
      mkdir -p "$out/bin" "$out/nix-support"
      cp /usr/bin/ninja "$out/bin"
      cp "$setupHook" "$out/nix-support/setup-hook"
    '';
  };

  # Without the directories of /usr that it would look into by itself.
  pkg-config = hostDerivation {
    pname = "pkg-config";
    version = "host";
    inherit bash;
    setupHook = ./hooks/pkg-config.sh;
    script = ''
      mkdir -p "$out/bin" "$out/libexec" "$out/nix-support"
      cp -L /usr/bin/pkg-config "$out/libexec"
      cat > "$out/bin/pkg-config" <<END
      #!$bash/bin/bash
      export PKG_CONFIG_LIBDIR=$out/lib/pkgconfig
      exec $out/libexec/pkg-config "\$@"
      END
      chmod 755 "$out/bin/pkg-config"
      cp "$setupHook" "$out/nix-support/setup-hook"
    '';
  };

  autoreconfHook = linkPrograms {
    pname = "autoreconf-hook";
    programs = [
      "aclocal"
      "autoconf"
      "autoheader"
      "autom4te"
      "automake"
      "autoreconf"
      "libtoolize"
      "m4"
    ];
    setupHook = ./hooks/autoreconf.sh;
  };
  gettext = linkPrograms {
    pname = "gettext";
    programs = [
      "msgfmt"
      "msgmerge"
      "xgettext"
    ];
  };
  gnum4 = copyPrograms {
    pname = "gnum4";
    programs = [ "m4" ];
    passthru.meta.mainProgram = "m4";
  };
  tcl = copyPrograms {
    pname = "tcl";
    programs = [ "tclsh" ];
    passthru.meta.mainProgram = "tclsh";
  };
}
