# shellcheck shell=bash
# Links into the store have to lead somewhere; those inside of an output become
# relative. Two files in nixpkgs; the order of the two is the same.
postFixupHooks+=(noBrokenSymlinksInAllOutputs _makeSymlinksRelativeInAllOutputs)

noBrokenSymlinks() {
  local -r output=$1
  [[ -e $output ]] || return 0
  local link target
  local -i broken=0
  while IFS='' read -r -d '' link; do
    target=$(readlink "$link")
    [[ $target == /* ]] || target=${link%/*}/$target
    target=$(realpath -ms -- "$target")
    # outside of the store is nobody's business
    [[ $target == "$NIX_STORE"/* ]] || continue
    if [[ $target == "$link" || ! -e $target && ! -L $target ]]; then
      nixErrorLog "the symlink $link points to a missing target: $target"
      broken+=1
    fi
  done < <(find "$output" -type l -print0)
  if ((broken)); then
    nixErrorLog "found $broken broken symlinks"
    exit 1
  fi
}

noBrokenSymlinksInAllOutputs() {
  [[ ! ${dontCheckForBrokenSymlinks-} ]] || return 0
  local output
  for output in $(getAllOutputNames); do
    noBrokenSymlinks "${!output}"
  done
}

_makeSymlinksRelativeInAllOutputs() {
  [[ ! ${dontRewriteSymlinks-} ]] || return 0
  local output link
  for output in $(getAllOutputNames); do
    [[ -e ${!output} ]] || continue
    while IFS='' read -r -d '' link; do
      echo "rewriting symlink $link to be relative to ${!output}"
      ln -snrf "$(readlink "$link")" "$link"
    done < <(find "${!output}" -type l -lname "${!output}/*" -print0)
  done
}
