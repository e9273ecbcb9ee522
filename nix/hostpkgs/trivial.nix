# nixpkgs' trivial builders: derivations of one command, without phases.
{
  lib,
  stdenv,
  stdenvNoCC,
  bash,
}:
rec {
  runCommandWith =
    {
      name,
      stdenv ? stdenvNoCC,
      runLocal ? false,
      derivationArgs ? { },
    }:
    buildCommand:
    stdenv.mkDerivation (
      {
        enableParallelBuilding = true;
        inherit name buildCommand;
        passAsFile = [ "buildCommand" ] ++ derivationArgs.passAsFile or [ ];
      }
      // lib.optionalAttrs runLocal {
        preferLocalBuild = true;
        allowSubstitutes = false;
      }
      // removeAttrs derivationArgs [ "passAsFile" ]
    );
  runCommand =
    name: derivationArgs: runCommandWith { inherit name derivationArgs; };
  runCommandCC =
    name: derivationArgs:
    runCommandWith {
      inherit name derivationArgs stdenv;
    };
  runCommandLocal =
    name: derivationArgs:
    runCommandWith {
      inherit name derivationArgs;
      runLocal = true;
    };

  writeTextFile =
    {
      name,
      text,
      executable ? false,
      destination ? "",
      checkPhase ? "",
      meta ? { },
      derivationArgs ? { },
      ...
    }:
    runCommandLocal name
      (
        {
          inherit text;
          passAsFile = [ "text" ];
          inherit meta;
        }
        // derivationArgs
      )
      ''
        target=$out${lib.escapeShellArg destination}
        mkdir -p "$(dirname "$target")"
        if [ -e "''${textPath-}" ]; then
          cp "$textPath" "$target"
        else
          printf '%s' "$text" > "$target"
        fi
        ${lib.optionalString executable ''chmod +x "$target"''}
        ${checkPhase}
      '';
  writeText = name: text: writeTextFile { inherit name text; };
  writeTextDir =
    path: text:
    writeTextFile {
      inherit text;
      name = baseNameOf path;
      destination = "/${path}";
    };
  writeScript =
    name: text:
    writeTextFile {
      inherit name text;
      executable = true;
    };
  writeShellScript =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      text = ''
        #!${runtimeShell}
        ${text}
      '';
      checkPhase = ''${runtimeShell} -n "$target"'';
    };
  writeShellScriptBin =
    name: text:
    writeTextFile {
      inherit name;
      executable = true;
      destination = "/bin/${name}";
      text = ''
        #!${runtimeShell}
        ${text}
      '';
      checkPhase = ''${runtimeShell} -n "$target"'';
      meta.mainProgram = name;
    };
  runtimeShell = "${bash}/bin/bash";

  # linkFarm NAME { link = path; … } or [ { name, path } … ]
  linkFarm =
    name: entries:
    let
      list =
        if lib.isAttrs entries then
          lib.mapAttrsToList (name: path: { inherit name path; }) entries
        else
          entries;
    in
    runCommandLocal name
      {
        passthru.entries = lib.listToAttrs (map (entry: lib.nameValuePair entry.name entry.path) list);
      }
      (
        ''
          mkdir -p "$out"
          cd "$out"
        ''
        + lib.concatMapStrings (entry: ''
          mkdir -p "$(dirname ${lib.escapeShellArg entry.name})"
          ln -s ${lib.escapeShellArg "${entry.path}"} ${lib.escapeShellArg entry.name}
        '') list
      );

  # A tree of links to all files of all paths; the first path that has one wins.
  symlinkJoin =
    {
      name ? "${pname}-${version}",
      pname ? null,
      version ? null,
      paths,
      postBuild ? "",
      ...
    }@args:
    runCommandLocal name
      (
        removeAttrs args [
          "name"
          "paths"
          "postBuild"
        ]
        // {
          paths = map toString paths;
        }
      )
      ''
        mkdir -p "$out"
        for path in $paths; do
          cp -rsn --no-preserve=mode "$path"/. "$out"
        done
        ${postBuild}
      '';

  makeSetupHook =
    {
      name,
      propagatedBuildInputs ? [ ],
      propagatedNativeBuildInputs ? [ ],
      depsTargetTargetPropagated ? [ ],
      substitutions ? { },
      passthru ? { },
      meta ? { },
    }:
    script:
    runCommand name
      (
        substitutions
        // {
          inherit
            propagatedBuildInputs
            propagatedNativeBuildInputs
            depsTargetTargetPropagated
            meta
            passthru
            ;
          strictDeps = true;
        }
      )
      # As in nixpkgs: with substitutions, all exported variables with a small
      # first letter count.
      (
        ''
          mkdir -p "$out/nix-support"
          cp ${script} "$out/nix-support/setup-hook"
          recordPropagatedDependencies
        ''
        + lib.optionalString (substitutions != { }) ''
          substituteAll ${script} "$out/nix-support/setup-hook"
        ''
      );

  replaceVarsWith =
    {
      src,
      replacements,
      name ? baseNameOf (builtins.unsafeDiscardStringContext (toString src)),
      dir ? "",
      isExecutable ? false,
      ...
    }:
    runCommandLocal name { } ''
      target=$out${lib.optionalString (dir != "") "/${dir}/${name}"}
      mkdir -p "$(dirname "$target")"
      substitute ${src} "$target" ${
        lib.concatStringsSep " " (
          lib.mapAttrsToList (
            name: value: "--replace-fail ${lib.escapeShellArg "@${name}@"} ${lib.escapeShellArg "${value}"}"
          ) (lib.filterAttrs (_: value: value != null) replacements)
        )
      }
      ${lib.optionalString isExecutable ''chmod +x "$target"''}
    '';
  replaceVars = src: replacements: replaceVarsWith { inherit src replacements; };

  # A derivation whose environment is that of the packages in `inputsFrom`.
  mkShell =
    {
      name ? "nix-shell",
      packages ? [ ],
      inputsFrom ? [ ],
      ...
    }@args:
    let
      gather = attr: (args.${attr} or [ ]) ++ lib.concatMap (pkg: pkg.${attr} or [ ]) inputsFrom;
    in
    stdenv.mkDerivation (
      removeAttrs args [
        "packages"
        "inputsFrom"
      ]
      // {
        inherit name;
        nativeBuildInputs = packages ++ gather "nativeBuildInputs";
        buildInputs = gather "buildInputs";
        propagatedBuildInputs = gather "propagatedBuildInputs";
        phases = [ "buildPhase" ];
        buildPhase = ''export > "$out"'';
        preferLocalBuild = true;
      }
    );

  emptyFile = writeText "empty-file" "";
  emptyDirectory = runCommandLocal "empty-directory" { } ''mkdir "$out"'';
}
