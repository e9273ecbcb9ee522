# shellcheck shell=bash
fixupOutputHooks+=(_doStrip)

_doStrip() {
  if [[ ${dontStrip-} || ${dontStripHost-} ]] || ! type -P "${STRIP-}" > /dev/null; then
    return 0
  fi
  # words, in lists and in arrays alike
  stripDirs "$STRIP" "$RANLIB" "${stripDebugList[*]:-lib lib32 lib64 libexec bin sbin}" "${stripDebugFlags[*]:--S -p}"
  stripDirs "$STRIP" "$RANLIB" "${stripAllList[*]:-}" "${stripAllFlags[*]:--s -p}"
}

# stripDirs STRIP RANLIB DIRECTORIES FLAGS
stripDirs() {
  local -r strip=$1 ranlib=$2
  local -a directories flags excluded=() present=()
  read -r -a directories <<< "$3"
  read -r -a flags <<< "$4"
  local name
  for name in "${directories[@]}"; do
    [[ ! -e $prefix/$name ]] || present+=("$prefix/$name")
  done
  ((${#present[@]})) || return 0
  local -a patterns=()
  concatTo patterns stripExclude
  for name in "${patterns[@]}"; do
    excluded+=('!' -path "$prefix/$name")
  done

  echo "stripping (with command $strip and flags ${flags[*]}) in ${present[*]}"
  # Not all files are objects: strip's complaints are of no interest. Each file
  # once, by whatever links it was found.
  local file
  while IFS='' read -r -d '' file; do
    "$strip" "${flags[@]}" "$file" 2> /dev/null || true
  done < <(find "${present[@]}" -type f '!' -path "$prefix/lib/debug/*" "${excluded[@]}" -print0 |
    xargs -r -0 realpath -z | sort -u -z)
  find "${present[@]}" -type f -name '*.a' -exec "$ranlib" {} \; 2> /dev/null || true
}
