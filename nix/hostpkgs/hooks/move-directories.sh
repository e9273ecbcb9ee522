# shellcheck shell=bash
# lib64 and sbin become links to lib and bin; doc, info and man go to share.
fixupOutputHooks+=(_moveLib64 _moveSbin)
preFixupHooks+=(_moveToShare)

# _mergeInto FROM TO: below $prefix
_mergeInto() {
  [[ -d $prefix/$1 && ! -L $prefix/$1 ]] || return 0
  echo "moving $prefix/$1/* to $prefix/$2"
  mkdir -p "$prefix/$2"
  local -
  shopt -s dotglob
  local entry
  for entry in "$prefix/$1"/*; do
    mv -f -- "$entry" "$prefix/$2"
  done
  shopt -u dotglob
  rmdir "$prefix/$1"
  ln -s "$2" "$prefix/$1"
}

_moveLib64() {
  [[ ${dontMoveLib64-} == 1 ]] || _mergeInto lib64 lib
}

_moveSbin() {
  [[ ${dontMoveSbin-} == 1 ]] || _mergeInto sbin bin
}

_moveToShare() {
  local output directory
  for output in $(getAllOutputNames); do
    for directory in ${forceShare-doc info man}; do
      if [[ -d ${!output}/$directory && ! -e ${!output}/share/$directory ]]; then
        mkdir -p "${!output}/share"
        mv "${!output}/$directory" "${!output}/share"
      fi
    done
  done
}
