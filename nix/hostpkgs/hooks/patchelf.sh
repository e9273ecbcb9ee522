# shellcheck shell=bash
# Removes from RUNPATHs what no library is found in.
fixupOutputHooks+=('if [[ ! ${dontPatchELF-} ]]; then patchELF "$prefix"; fi')

patchELF() {
  local -r dir=$1
  [[ -e $dir ]] || return 0
  echo "shrinking RPATHs of ELF executables and libraries in $dir"
  local file
  while IFS='' read -r -d '' file; do
    [[ $file != *.build-id* ]] && isELF "$file" || continue
    echo "shrinking $file"
    patchelf --shrink-rpath "$file" || true
  done < <(find "$dir" -type f -print0)
}
