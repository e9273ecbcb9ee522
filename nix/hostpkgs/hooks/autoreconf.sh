# shellcheck shell=bash
# Makes a configure script first, for sources that come without one.
appendToVar preConfigurePhases autoreconfPhase

autoreconfPhase() {
  runHook preAutoreconf
  local -a flagsArray=()
  concatTo flagsArray autoreconfFlags='--install --force --verbose'
  # A default is one word
  # shellcheck disable=SC2086
  autoreconf ${flagsArray[*]}
  runHook postAutoreconf
}
