# shellcheck shell=bash
# shellcheck disable=SC2154
# Configures with meson, in a directory `build`, for ninja.
mesonConfigurePhase() {
  runHook preConfigure

  local -a flagsArray=()
  [[ ${dontAddPrefix-} ]] || flagsArray+=(--prefix="$prefix")
  flagsArray+=(
    --libdir="${!outputLib}/lib" --libexecdir="${!outputLib}/libexec"
    --bindir="${!outputBin}/bin" --sbindir="${!outputBin}/sbin"
    --includedir="${!outputInclude}/include"
    --mandir="${!outputMan}/share/man" --infodir="${!outputInfo}/share/info"
    --localedir="${!outputLib}/share/locale"
    -Dauto_features="${mesonAutoFeatures:-enabled}"
    -Dwrap_mode="${mesonWrapMode:-nodownload}"
    --buildtype="${mesonBuildType:-plain}"
  )
  concatTo flagsArray mesonFlags mesonFlagsArray
  echoCmd 'mesonConfigurePhase flags' "${flagsArray[@]}"
  meson setup "${mesonBuildDir:=build}" "${flagsArray[@]}"
  cd "$mesonBuildDir"

  : "${enableParallelBuilding=1}"
  if [[ ${checkPhase-ninjaCheckPhase} == ninjaCheckPhase && ! ${dontUseMesonCheck-} ]]; then
    checkPhase=mesonCheckPhase
  fi
  if [[ ${installPhase-ninjaInstallPhase} == ninjaInstallPhase && ! ${dontUseMesonInstall-} ]]; then
    installPhase=mesonInstallPhase
  fi

  runHook postConfigure
}

mesonCheckPhase() {
  runHook preCheck
  local -a flagsArray=()
  concatTo flagsArray mesonCheckFlags mesonCheckFlagsArray
  [[ ${dontAddTimeoutMultiplier-} ]] || flagsArray+=(--timeout-multiplier=0)
  echoCmd 'mesonCheckPhase flags' "${flagsArray[@]}"
  meson test --no-rebuild --print-errorlogs "${flagsArray[@]}"
  runHook postCheck
}

mesonInstallPhase() {
  runHook preInstall
  local -a flagsArray=()
  concatTo flagsArray mesonInstallFlags mesonInstallFlagsArray
  echoCmd 'mesonInstallPhase flags' "${flagsArray[@]}"
  meson install --no-rebuild "${flagsArray[@]}"
  runHook postInstall
}

if [[ ! ${dontUseMesonConfigure-} && ! ${configurePhase-} ]]; then
  setOutputFlags=
  configurePhase=mesonConfigurePhase
fi
