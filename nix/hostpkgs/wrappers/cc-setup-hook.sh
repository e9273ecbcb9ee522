# shellcheck shell=bash
# A compiler for the host platform. nixpkgs tells more roles apart, by suffixes.
[[ $targetOffset == 0 && ( -z ${strictDeps-} || $hostOffset -lt 0 ) ]] || return 0

ccWrapper_addCVars() {
  if [[ -d $1/include ]]; then
    export NIX_CFLAGS_COMPILE="${NIX_CFLAGS_COMPILE-} -isystem $1/include"
  fi
}
addEnvHooks "$targetOffset" ccWrapper_addCVars

export NIX_CC=@out@
export CC=gcc CXX=g++
