# Store copies of the host's own tools.
#
# They are ordinary input-addressed derivations that read /usr: a store keeps
# its copy when the host is upgraded. They go on using the host's loader and
# libraries, so a sandbox has to offer those (see README.md).
{ lib, system }:
rec {
  # A derivation without a stdenv. The script has the host's own PATH.
  #
  # It ends in a shell built-in: were a coreutils program exec'd as the last
  # command, it would close its standard output first, which Nix takes for the
  # end of the builder, and kills it.
  hostDerivation =
    {
      pname,
      version,
      script,
      outputs ? [ "out" ],
      passthru ? { },
      ...
    }@attrs:
    let
      drv = derivation (
        removeAttrs attrs [
          "passthru"
          "script"
        ]
        // {
          inherit outputs system;
          name = attrs.name or "${pname}-${version}";
          builder = "/bin/bash";
          args = [
            "-euc"
            ''
              set -o pipefail
              shopt -s nullglob
              export PATH=/usr/bin:/bin LC_ALL=C
              umask 022
              ${script}
              exit 0
            ''
          ];
          preferLocalBuild = true;
        }
      );
      extra = {
        inherit pname version;
        meta.mainProgram = pname;
      }
      // passthru;
    in
    drv // extra // lib.genAttrs outputs (output: drv.${output} // extra // { outputSpecified = true; });

  # Those of `programs` that the host has; `aliases` are symbolic links.
  copyPrograms =
    {
      pname,
      programs,
      optional ? [ ],
      aliases ? { },
      passthru ? { },
    }:
    hostDerivation {
      inherit pname passthru;
      version = "host";
      script = ''
        mkdir -p "$out/bin"
        for program in ${toString programs}; do
          install -m 755 "$(type -P "$program")" "$out/bin/$program"
        done
        for program in ${toString optional}; do
          if file=$(type -P "$program"); then
            install -m 755 "$file" "$out/bin/$program"
          fi
        done
        ${lib.concatStrings (
          lib.mapAttrsToList (alias: program: ''
            ln -s ${program} "$out/bin/${alias}"
          '') aliases
        )}
      '';
    };

  bash = copyPrograms {
    pname = "bash";
    programs = [ "bash" ];
    aliases.sh = "bash";
    passthru.shellPath = "/bin/bash";
  };
  coreutils = copyPrograms {
    pname = "coreutils";
    programs = lib.splitString " " (
      "arch b2sum base32 base64 basename basenc cat chgrp chmod chown cksum comm cp csplit cut date dd df dir"
      + " dircolors dirname du echo env expand expr factor false fmt fold groups head hostid id install join"
      + " link ln logname ls md5sum mkdir mkfifo mknod mktemp mv nice nl nohup nproc numfmt od paste pathchk"
      + " pinky pr printenv printf ptx pwd readlink realpath rm rmdir runcon seq sha1sum sha224sum sha256sum"
      + " sha384sum sha512sum shred shuf sleep sort split stat stdbuf stty sum sync tac tail tee test timeout"
      + " touch tr true truncate tsort tty uname unexpand uniq unlink users vdir wc who whoami yes"
    );
    aliases."[" = "test";
  };
  findutils = copyPrograms {
    pname = "findutils";
    programs = [
      "find"
      "xargs"
    ];
  };
  diffutils = copyPrograms {
    pname = "diffutils";
    programs = [
      "cmp"
      "diff"
      "diff3"
      "sdiff"
    ];
  };
  gnused = copyPrograms {
    pname = "gnused";
    programs = [ "sed" ];
  };
  # Debian's egrep and fgrep are scripts of /bin/sh; they work as they are.
  gnugrep = copyPrograms {
    pname = "gnugrep";
    programs = [
      "grep"
      "egrep"
      "fgrep"
    ];
  };
  # Whichever awk the host has.
  gawk = copyPrograms {
    pname = "gawk";
    programs = [ "awk" ];
    aliases.gawk = "awk";
  };
  gnutar = copyPrograms {
    pname = "gnutar";
    programs = [ "tar" ];
  };
  gzip = copyPrograms {
    pname = "gzip";
    programs = [ "gzip" ];
    optional = [ "zcat" ];
    aliases.gunzip = "gzip";
  };
  bzip2 = copyPrograms {
    pname = "bzip2";
    programs = [ ];
    optional = [
      "bzip2"
      "bunzip2"
      "bzcat"
    ];
  };
  xz = copyPrograms {
    pname = "xz";
    programs = [ ];
    optional = [
      "xz"
      "unxz"
      "xzcat"
    ];
  };
  gnumake = copyPrograms {
    pname = "gnumake";
    programs = [ "make" ];
    passthru.meta.mainProgram = "make";
  };
  gnupatch = copyPrograms {
    pname = "patch";
    programs = [ "patch" ];
  };
  file = copyPrograms {
    pname = "file";
    programs = [ "file" ];
  };
  which = copyPrograms {
    pname = "which";
    programs = [ "which" ];
  };

  # For checks that want them: an empty package where the host has none.
  strace = copyPrograms {
    pname = "strace";
    programs = [ ];
    optional = [ "strace" ];
  };
  shellcheck = copyPrograms {
    pname = "shellcheck";
    programs = [ ];
    optional = [ "shellcheck" ];
  };
}
