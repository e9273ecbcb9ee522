# shellcheck shell=bash
# Makes a configure script first, for sources that come without one.
appendToVar preConfigurePhases autoreconfPhase

autoreconfPhase() {
  runHook preAutoreconf
  : "${autoreconfFlags:=--install --force --verbose}"
  local -a flagsArray=()
  concatTo flagsArray autoreconfFlags
  autoreconf "${flagsArray[@]}"
  runHook postAutoreconf
}
