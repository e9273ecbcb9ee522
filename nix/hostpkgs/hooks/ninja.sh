# shellcheck shell=bash
# Builds, checks and installs with ninja.

# _ninja WHAT PARALLEL NAMES...: ninja with the words that concatTo finds under
# those names.
_ninja() {
  local -r what=$1 parallel=$2
  shift 2
  local -a flagsArray=(-j"$NIX_BUILD_CORES")
  [[ $parallel ]] || flagsArray=(-j1)
  concatTo flagsArray ninjaFlags ninjaFlagsArray "$@"
  echoCmd "$what flags" "${flagsArray[@]}"
  TERM=dumb ninja "${flagsArray[@]}"
}

ninjaBuildPhase() {
  runHook preBuild
  _ninja build "${enableParallelBuilding-1}"
  runHook postBuild
}

ninjaCheckPhase() {
  runHook preCheck
  if [[ ! ${checkTarget-} ]] && ninja -t query test > /dev/null 2>&1; then
    checkTarget=test
  fi
  if [[ ${checkTarget-} ]]; then
    _ninja check "${enableParallelChecking-1}" checkTarget
  else
    echo "no test target found in ninja, doing nothing"
  fi
  runHook postCheck
}

ninjaInstallPhase() {
  runHook preInstall
  _ninja install "${enableParallelInstalling-1}" installTargets=install
  runHook postInstall
}

[[ ${dontUseNinjaBuild-} || ${buildPhase-} ]] || buildPhase=ninjaBuildPhase
[[ ${dontUseNinjaCheck-} || ${checkPhase-} ]] || checkPhase=ninjaCheckPhase
[[ ${dontUseNinjaInstall-} || ${installPhase-} ]] || installPhase=ninjaInstallPhase
