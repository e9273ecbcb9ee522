# shellcheck shell=bash
# The binutils of the host platform. nixpkgs tells more roles apart, by suffixes.
[[ $targetOffset == 0 && ( -z ${strictDeps-} || $hostOffset -lt 0 ) ]] || return 0

bintoolsWrapper_addLDVars() {
  if [[ -d $1/lib64 && ! -L $1/lib64 ]]; then
    export NIX_LDFLAGS="${NIX_LDFLAGS-} -L$1/lib64"
  fi
  # Only for libraries: a directory of anything else is no -L
  local -a found=("$1"/lib/lib*)
  if ((${#found[@]})); then
    export NIX_LDFLAGS="${NIX_LDFLAGS-} -L$1/lib"
  fi
}
addEnvHooks "$targetOffset" bintoolsWrapper_addLDVars

export NIX_BINTOOLS=@out@
for program in addr2line ar as ld nm objcopy objdump ranlib readelf size strings strip; do
  export "${program^^}=$program"
done
unset -v program
