# shellcheck shell=bash
# shellcheck disable=SC2154
# Configures with CMake, in a directory `build`.
#
# Packages are found by CMAKE_PREFIX_PATH; nixpkgs has a variable of its own for
# it, that programs are not looked up in.
addCMakeParams() {
  addToSearchPath CMAKE_PREFIX_PATH "$1"
}
addEnvHooks "$targetOffset" addCMakeParams

# Headers and libraries, by the flags that the compiler gets.
makeCmakeFindLibs() {
  local flag previous=''
  # shellcheck disable=SC2086
  for flag in ${NIX_CFLAGS_COMPILE-} ${NIX_LDFLAGS-}; do
    if [[ $previous == -isystem ]]; then
      addToSearchPath CMAKE_INCLUDE_PATH "$flag"
    else
      case $flag in
        -I*) addToSearchPath CMAKE_INCLUDE_PATH "${flag#-I}" ;;
        -L*) addToSearchPath CMAKE_LIBRARY_PATH "${flag#-L}" ;;
      esac
    fi
    previous=$flag
  done
}
postHooks+=(makeCmakeFindLibs)

# Paths of the host in a package's own files
fixCmakeFiles() {
  echo "fixing cmake files..."
  find "$1" -type f \( -name '*.cmake' -o -name '*.cmake.in' -o -name CMakeLists.txt \) \
    -exec sed -i -E 's,/(usr|opt)([ /]|$),/var/empty\2,g' {} +
}

cmakeConfigurePhase() {
  runHook preConfigure

  export CTEST_OUTPUT_ON_FAILURE=1
  if [[ ${enableParallelChecking-1} ]]; then
    export CTEST_PARALLEL_LEVEL=$NIX_BUILD_CORES
  fi
  if [[ ! ${dontFixCmake-} ]]; then
    fixCmakeFiles .
  fi
  if [[ ! ${dontUseCmakeBuildDir-} ]]; then
    mkdir -p "${cmakeBuildDir:=build}"
    cd "$cmakeBuildDir"
    : "${cmakeDir:=..}"
  fi

  local -a flagsArray=(
    -DCMAKE_C_COMPILER="$CC" -DCMAKE_CXX_COMPILER="$CXX"
    -DCMAKE_AR="$(type -P "$AR")" -DCMAKE_RANLIB="$(type -P "$RANLIB")" -DCMAKE_STRIP="$(type -P "$STRIP")"
    -DCMAKE_BUILD_TYPE="${cmakeBuildType:-Release}"
    -DCMAKE_INSTALL_BINDIR="${!outputBin}/bin" -DCMAKE_INSTALL_SBINDIR="${!outputBin}/sbin"
    -DCMAKE_INSTALL_INCLUDEDIR="${!outputInclude}/include"
    -DCMAKE_INSTALL_LIBDIR="${!outputLib}/lib" -DCMAKE_INSTALL_LIBEXECDIR="${!outputLib}/libexec"
    -DCMAKE_INSTALL_LOCALEDIR="${!outputLib}/share/locale"
    -DCMAKE_INSTALL_MANDIR="${!outputMan}/share/man" -DCMAKE_INSTALL_INFODIR="${!outputInfo}/share/info"
    -DCMAKE_INSTALL_DOCDIR="${!outputDoc}/share/doc/${shareDocName:-${pname-$name}}"
    -DCMAKE_EXPORT_NO_PACKAGE_REGISTRY=ON
    -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DCMAKE_FIND_USE_SYSTEM_PACKAGE_REGISTRY=OFF
  )
  [[ ${dontAddPrefix-} ]] || flagsArray+=(-DCMAKE_INSTALL_PREFIX="$prefix")
  [[ ${doCheck-} ]] || flagsArray+=(-DBUILD_TESTING=OFF)
  [[ ${buildPhase-} != ninjaBuildPhase ]] || flagsArray+=(-GNinja)
  concatTo flagsArray cmakeFlags cmakeFlagsArray
  echoCmd 'cmake flags' "${flagsArray[@]}"
  cmake "${cmakeDir:-.}" "${flagsArray[@]}"

  : "${enableParallelBuilding=1}" "${enableParallelInstalling=1}"
  if ((enableParallelBuilding)); then
    export CMAKE_BUILD_PARALLEL_LEVEL=$NIX_BUILD_CORES
  fi

  runHook postConfigure
}

if [[ ! ${dontUseCmakeConfigure-} && ! ${configurePhase-} ]]; then
  setOutputFlags=
  configurePhase=cmakeConfigurePhase
fi
