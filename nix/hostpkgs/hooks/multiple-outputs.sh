# shellcheck shell=bash
# Which output gets what; the names are those of nixpkgs.
preConfigureHooks+=(_multioutConfig)
preFixupHooks+=(_multioutDocs _multioutDevs)
postFixupHooks+=(_multioutPropagateDev)

# _chooseOutput VARIABLE CANDIDATES...: unless the derivation chose, the first
# output that exists.
_chooseOutput() {
  local -r variable=$1
  local -r REMOVE=REMOVE
  shift
  [[ ! ${!variable-} ]] || return 0
  local candidate
  for candidate in "$@"; do
    if [[ ${!candidate-} ]]; then
      declare -g "$variable=$candidate"
      return 0
    fi
  done
  echo "error: $variable: none of the outputs exists: $*" >&2
  return 1
}
_chooseOutput outputDev dev out
_chooseOutput outputBin bin out
_chooseOutput outputInclude "$outputDev"
_chooseOutput outputLib lib out
_chooseOutput outputDoc doc out
_chooseOutput outputDevdoc devdoc REMOVE
_chooseOutput outputMan man "$outputBin"
_chooseOutput outputDevman devman devdoc "$outputMan"
_chooseOutput outputInfo info "$outputBin"

# The library output's own directory, instead of $out's
_addRpathPrefix "${!outputLib}"
NIX_NO_SELF_RPATH=1

_multioutConfig() {
  if [[ $(getAllOutputNames) == out || ! ${setOutputFlags-1} ]]; then
    return 0
  fi
  local -r doc=${shareDocName:-${pname:-${name%%-[0-9]*}}}
  prependToVar configureFlags \
    --bindir="${!outputBin}/bin" --sbindir="${!outputBin}/sbin" \
    --includedir="${!outputInclude}/include" --oldincludedir="${!outputInclude}/include" \
    --mandir="${!outputMan}/share/man" --infodir="${!outputInfo}/share/info" \
    --docdir="${!outputDoc}/share/doc/$doc" \
    --libdir="${!outputLib}/lib" --libexecdir="${!outputLib}/libexec" \
    --localedir="${!outputLib}/share/locale"
  prependToVar installFlags \
    pkgconfigdir="${!outputDev}/lib/pkgconfig" \
    m4datadir="${!outputDev}/share/aclocal" aclocaldir="${!outputDev}/share/aclocal"
}

# moveToOutput PATTERN DIRECTORY|REMOVE: whatever matches in other outputs.
moveToOutput() {
  local -r pattern=$1 destination=$2
  local output source target
  for output in $(getAllOutputNames); do
    [[ ${!output} != "$destination" ]] || continue
    # shellcheck disable=SC2231
    for source in "${!output}"/$pattern; do
      [[ -e $source || -L $source ]] || continue
      if [[ $destination == REMOVE ]]; then
        echo "Removing $source"
        rm -r "$source"
      else
        target=$destination${source#"${!output}"}
        echo "Moving $source to $target"
        if [[ -d $target && -d $source ]]; then
          rmdir --ignore-fail-on-non-empty "$source"
          if [[ -d $source ]]; then
            mv -t "$target" "$source"/*
            rmdir "$source"
          fi
        else
          mkdir -p "$(dirname "$target")"
          mv "$source" "$target"
        fi
      fi
      rmdir -p --ignore-fail-on-non-empty "$(dirname "$source")" 2> /dev/null || true
    done
  done
}

_multioutDocs() {
  local -r REMOVE=REMOVE
  moveToOutput share/info "${!outputInfo}"
  moveToOutput share/doc "${!outputDoc}"
  moveToOutput share/gtk-doc "${!outputDevdoc}"
  moveToOutput share/devhelp/books "${!outputDevdoc}"
  moveToOutput share/man "${!outputMan}"
  moveToOutput share/man/man3 "${!outputDevman}"
}

_multioutDevs() {
  if [[ $(getAllOutputNames) == out || ! ${moveToDev-1} ]]; then
    return 0
  fi
  moveToOutput include "${!outputInclude}"
  local path
  for path in lib/pkgconfig share/pkgconfig lib/cmake share/aclocal; do
    moveToOutput "$path" "${!outputDev}"
  done
  for path in "${!outputDev}"/{lib,share}/pkgconfig/*.pc; do
    echo "Patching '$path' includedir to output ${!outputInclude}"
    sed -i "/^includedir=/s,=\${prefix},=${!outputInclude}," "$path"
  done
}

# Who depends on dev gets what its headers go with.
_multioutPropagateDev() {
  [[ $(getAllOutputNames) != out ]] || return 0
  local -a names
  local name
  if [[ ${propagatedBuildOutputs+set} ]]; then
    # shellcheck disable=SC2206
    names=(${propagatedBuildOutputs[*]})
  else
    readarray -t names < <(printf '%s\n' "$outputBin" "$outputInclude" "$outputLib" | sort -u)
  fi
  for name in "${names[@]}"; do
    if [[ ${propagatedBuildOutputs+set} || $name != "$outputDev" ]]; then
      mkdir -p "${!outputDev}/nix-support"
      printf ' %s' "${!name}" >> "${!outputDev}/nix-support/propagated-build-inputs"
    fi
  done
}
