# shellcheck shell=bash
# Refuses search paths into the build directory, which is gone after the build.
fixupOutputHooks+=('if [[ ! ${noAuditTmpdir-} && -e $prefix ]]; then auditTmpdir "$prefix"; fi')

auditTmpdir() {
  local -r dir=$1
  [[ -e $dir ]] || return 0
  echo "checking for references to $TMPDIR/ in $dir..."
  local file
  while IFS='' read -r -d '' file; do
    [[ $file != *.build-id* ]] && isELF "$file" || continue
    if { patchelf --print-rpath "$file" || true; } | grep -qF "$TMPDIR/"; then
      echo "RPATH of binary $file contains a forbidden reference to $TMPDIR/"
      exit 1
    fi
  done < <(find "$dir" -type f -print0)
}
