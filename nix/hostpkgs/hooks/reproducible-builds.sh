# shellcheck shell=bash
# What gcc would take from a random number depends on the output path only.
_randomSeed=${out##*/}
export NIX_CFLAGS_COMPILE="${NIX_CFLAGS_COMPILE-} -frandom-seed=${_randomSeed:0:10}"
unset -v _randomSeed
