# shellcheck shell=bash
# shellcheck disable=SC1090,SC1091,SC2154
# Run by the bash of a stdenv: its setup, then the file that was given.

# Structured attributes: what Nix 2.8 names in NIX_ATTRS_SH_FILE lies elsewhere
# in a sandbox, but always in the build directory.
if [[ -e ${NIX_ATTRS_SH_FILE-} ]]; then
  source "$NIX_ATTRS_SH_FILE"
elif [[ -e .attrs.sh ]]; then
  source .attrs.sh
fi
source "$stdenv/setup"
source "$1"
