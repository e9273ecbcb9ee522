# shellcheck shell=bash
# shellcheck disable=SC1090,SC2034,SC2154
#
# The generic builder: what nixpkgs' pkgs/stdenv/generic/setup.sh offers to
# packages and to setup hooks, with the same names and in the same order,
# wherever a package or a hook can tell. Sourced by builder.sh, after the
# default inputs, initialPath and SHELL were set (see stdenv.nix).

_flagsOfCaller=$-
set -eu -o pipefail
shopt -s inherit_errexit

if [[ ${NIX_DEBUG-} && ${NIX_DEBUG-} != [0-7] ]]; then
  echo "NIX_DEBUG is '$NIX_DEBUG', not a level from 0 to 7" >&2
  exit 1
fi
if ((${NIX_DEBUG:-0} >= 6)); then
  set -x
fi

# Structured attributes: builder.sh has sourced them. `outputs` is then an
# associative array, a string otherwise.
if [[ -e ${NIX_ATTRS_SH_FILE-} || -e .attrs.sh || ${NIX_ATTRS_JSON_FILE-} ]]; then
  __structuredAttrs=1
  for outputName in "${!outputs[@]}"; do
    export "$outputName=${outputs[$outputName]}"
  done
  unset -v outputName
  for _format in JSON:json SH:sh; do
    _variable=NIX_ATTRS_${_format%:*}_FILE
    # Older versions of Nix name a file outside of the sandbox
    [[ -e ${!_variable-} ]] || export "$_variable=$NIX_BUILD_TOP/.attrs.${_format#*:}"
  done
  unset -v _format _variable
  if declare -p env > /dev/null 2>&1; then
    for _variable in "${!env[@]}"; do
      export "$_variable=${env[$_variable]}"
    done
    unset -v _variable
  fi
else
  __structuredAttrs=
  : "${outputs:=out}"
fi

getAllOutputNames() {
  if [[ $__structuredAttrs ]]; then
    echo "${!outputs[*]}"
  else
    echo "$outputs"
  fi
}

## Log

# Says what follows as the function that calls it.
nixLog() {
  [[ ${NIX_LOG_FD-} ]] || return 0
  local caller=${FUNCNAME[1]}
  [[ $caller != _callImplicitHook ]] || caller=$hookName
  printf '%s: %s\n' "$caller" "$*" >&"$NIX_LOG_FD"
}

_nixLogAt() {
  local -r level=$1 word=$2
  shift 2
  [[ ${NIX_LOG_FD-} ]] && ((${NIX_DEBUG:-0} >= level)) || return 0
  local caller=${FUNCNAME[2]}
  [[ $caller != _callImplicitHook ]] || caller=$hookName
  printf '%s: %s: %s\n' "$word" "$caller" "$*" >&"$NIX_LOG_FD"
}

nixErrorLog() { _nixLogAt 0 ERROR "$@"; }
nixWarnLog() { _nixLogAt 1 WARN "$@"; }
nixNoticeLog() { _nixLogAt 2 NOTICE "$@"; }
nixInfoLog() { _nixLogAt 3 INFO "$@"; }
nixTalkativeLog() { _nixLogAt 4 TALKATIVE "$@"; }
nixChattyLog() { _nixLogAt 5 CHATTY "$@"; }
nixDebugLog() { _nixLogAt 6 DEBUG "$@"; }
nixVomitLog() { _nixLogAt 7 VOMIT "$@"; }

## Hooks

# The derivation's own hook first (a function, a script or a string of that
# name), then the elements of NAMEHooks in order. No call stands in a condition,
# so `set -e` is in force in all of them.
runHook() {
  local hookName=$1
  shift
  local -n _elements="${hookName%Hook}Hooks"
  local -a _queue=("_callImplicitHook 0 $hookName" ${_elements+"${_elements[@]}"})
  unset -n _elements
  local hook
  for hook in "${_queue[@]}"; do
    nixTalkativeLog "$hookName: $hook"
    _eval "$hook" "$@"
  done
  return 0
}

# The same up to the first one that succeeds.
runOneHook() {
  local hookName=$1
  shift
  local -n _elements="${hookName%Hook}Hooks"
  local -a _queue=("_callImplicitHook 1 $hookName" ${_elements+"${_elements[@]}"})
  unset -n _elements
  local hook
  for hook in "${_queue[@]}"; do
    if _eval "$hook" "$@"; then
      return 0
    fi
  done
  return 1
}

_callImplicitHook() {
  local -r otherwise=$1
  local hookName=$2
  if declare -F "$hookName" > /dev/null; then
    "$hookName"
  elif type -p "$hookName" > /dev/null; then
    source "$hookName"
  elif [[ ${!hookName:-} ]]; then
    eval "${!hookName}"
  else
    return "$otherwise"
  fi
}

# A function gets the arguments. A `return` in a string ends the string only.
_eval() {
  if declare -F "$1" > /dev/null; then
    "$@"
  else
    eval "$1"
  fi
}

exitHandler() {
  exitCode=$?
  set +e
  if ((exitCode != 0)); then
    runHook failureHook
    if [[ ${succeedOnFailure:-} ]]; then
      echo "build failed with exit code $exitCode (ignored)"
      mkdir -p "$out/nix-support"
      printf '%s' "$exitCode" > "$out/nix-support/failed"
      exit 0
    fi
  else
    runHook exitHook
  fi
  return "$exitCode"
}
trap exitHandler EXIT

## Helpers for hooks

addToSearchPathWithCustomDelimiter() {
  local -r delimiter=$1 variable=$2 directory=$3
  local -r old=${!variable-}
  if [[ -d $directory && $delimiter$old$delimiter != *"$delimiter$directory$delimiter"* ]]; then
    export "$variable=${old:+$old$delimiter}$directory"
  fi
}

addToSearchPath() {
  addToSearchPathWithCustomDelimiter : "$@"
}

# How is that variable declared: map, array, string or (unset) nothing?
_kindOf() {
  local _declaration _flags
  _declaration=$(declare -p "$1" 2> /dev/null) || return 0
  read -r _ _flags _ <<< "$_declaration"
  case $_flags in
    *A*) echo map ;;
    *a*) echo array ;;
    *) echo string ;;
  esac
}

# _addToVar prepend|append VARIABLE WORDS...: to an array, or to a string of
# words; an unset variable becomes what lists are in this derivation.
_addToVar() {
  local -r where=$1 _variable=$2
  shift 2
  local _kind
  _kind=$(_kindOf "$_variable")
  : "${_kind:=${__structuredAttrs:+array}}"
  local -n _list=$_variable
  case $_kind in
    map)
      echo "${where}ToVar(): ERROR: $_variable is an associative array" >&2
      return 1
      ;;
    array)
      if [[ $where == prepend ]]; then
        _list=("$@" ${_list+"${_list[@]}"})
      else
        _list=(${_list+"${_list[@]}"} "$@")
      fi
      ;;
    *)
      if [[ $where == prepend ]]; then
        _list="$* ${_list-}"
      else
        _list="${_list-} $*"
      fi
      ;;
  esac
}
prependToVar() { _addToVar prepend "$@"; }
appendToVar() { _addToVar append "$@"; }

# concatTo ARRAY NAME|NAME=DEFAULT...: arrays as they are, strings split.
concatTo() {
  local -
  set -o noglob
  local -n _target=$1
  shift
  local _argument _name _default _kind
  for _argument in "$@"; do
    _name=${_argument%%=*}
    _default=''
    [[ $_argument != *=* ]] || _default=${_argument#*=}
    _kind=$(_kindOf "$_name")
    local -n _source=$_name
    if [[ ! ${_source[*]-} && $_default ]]; then
      _target+=("$_default")
    else
      case $_kind in
        map)
          echo "concatTo(): ERROR: $_name is an associative array" >&2
          return 1
          ;;
        array) _target+=("${_source[@]}") ;;
        string)
          if [[ $_name == *Array ]]; then
            nixErrorLog "$_name is no array: taken as one word"
            _target+=("$_source")
          else
            # shellcheck disable=SC2206
            _target+=($_source)
          fi
          ;;
      esac
    fi
    unset -n _source
  done
}

# concatStringsSep SEPARATOR NAME
concatStringsSep() {
  local -r sep=$1
  local -n _joined=$2
  case $(_kindOf "$2") in
    map)
      echo "concatStringsSep(): ERROR: $2 is an associative array" >&2
      return 1
      ;;
    array)
      local IFS=$sep
      printf '%s' "${_joined[*]}"
      ;;
    string) printf '%s' "${_joined// /"$sep"}" ;;
  esac
}

_addRpathPrefix() {
  if [[ ${NIX_NO_SELF_RPATH:-0} != 1 ]]; then
    export NIX_LDFLAGS="-rpath $1/lib ${NIX_LDFLAGS-}"
  fi
}

# _startsWith FILE MAGIC
_startsWith() {
  local LC_ALL=C _fd _start=''
  exec {_fd}< "$1"
  read -r -N "${#2}" -u "$_fd" _start || true
  exec {_fd}<&-
  [[ $_start == "$2" ]]
}
isELF() { _startsWith "$1" $'\177ELF'; }
isScript() { _startsWith "$1" '#!'; }
# No derivation here makes Mach-O files.
isMachO() { return 1; }

printLines() {
  (($# == 0)) || printf '%s\n' "$@"
}
printWords() {
  (($# == 0)) || printf '%s ' "$@"
}
echoCmd() {
  printf '%s:' "$1"
  shift
  printf ' %q' "$@"
  echo
}

## State that every build starts from

export SOURCE_DATE_EPOCH
: "${SOURCE_DATE_EPOCH:=315532800}" # 1980: the first year that zip files know
shopt -s nullglob

PATH='' HOST_PATH=''
for _tool in $initialPath; do
  addToSearchPath PATH "$_tool/bin"
  [[ ${strictDeps-} ]] || addToSearchPath HOST_PATH "$_tool/bin"
done
unset -v _tool

BASH=$SHELL
export CONFIG_SHELL=$SHELL
export shell=${shell:-$SHELL}

runHook preHook
runHook addInputsHook

## Dependencies
#
# A dependency has two offsets, of the platform that it runs on and of the one
# that it makes code for: -1 build, 0 host, 1 target. Each pair of offsets has
# its array of packages, its array of hooks on packages and its file of
# propagated dependencies.

_platforms=(Build Host Target)
declare -a pkgsBuildBuild=() pkgsBuildHost=() pkgsBuildTarget=()
declare -a pkgsHostHost=() pkgsHostTarget=() pkgsTargetTarget=()
declare -a envBuildBuildHooks=() envBuildHostHooks=() envBuildTargetHooks=()
declare -a envHostHostHooks=() envHostTargetHooks=() envTargetTargetHooks=()
declare -a preFixupHooks fixupOutputHooks preConfigureHooks postFixupHooks postUnpackHooks unpackCmdHooks
declare -ra _roles=('-1 -1' '-1 0' '-1 1' '0 0' '0 1' '1 1')
declare -rA _propagationFile=(
  ['-1 -1']=propagated-build-build-deps
  ['-1 0']=propagated-native-build-inputs
  ['-1 1']=propagated-build-target-deps
  ['0 0']=propagated-host-host-deps
  ['0 1']=propagated-build-inputs
  ['1 1']=propagated-target-target-deps
)

# _roleName HOST TARGET
_roleName() {
  _role=${_platforms[$1 + 1]}${_platforms[$2 + 1]}
}

# addEnvHooks HOST FUNCTION...: to be called with each dependency that runs
# there.
addEnvHooks() {
  local -r host=$1
  shift
  local _role target
  for ((target = host; target <= 1; target++)); do
    _roleName "$host" "$target"
    local -n _hooks=env${_role}Hooks
    _hooks+=("$@")
    unset -n _hooks
  done
}

# findInputs PACKAGE HOST TARGET: note the package and all that it propagates,
# at the offsets that follow from its own.
findInputs() {
  local -r pkg=$1 hostOffset=$2 targetOffset=$3
  local _role
  _roleName "$hostOffset" "$targetOffset"
  local -n _known=pkgs$_role
  local other
  for other in "${_known[@]}"; do
    [[ $other != "$pkg" ]] || return 0
  done
  _known+=("$pkg")
  unset -n _known
  if [[ ! -e $pkg ]]; then
    echo "build input $pkg does not exist" >&2
    exit 1
  fi

  local role file next offset host target
  local -a propagated mapped
  for role in "${_roles[@]}"; do
    mapped=()
    for offset in $role; do
      if ((offset <= 0)); then
        mapped+=($((offset + hostOffset)))
      else
        mapped+=($((offset - 1 + targetOffset)))
      fi
    done
    host=${mapped[0]} target=${mapped[1]}
    ((-1 <= host && host <= 1 && host <= target && target <= 1)) || continue
    file=$pkg/nix-support/${_propagationFile[$role]}
    [[ -f $file ]] || continue
    read -r -d '' -a propagated < "$file" || true
    for next in "${propagated[@]}"; do
      findInputs "$next" "$host" "$target"
    done
  done
}

# The attributes are strings or, structured, arrays: both split into paths.
_findAll() {
  local -r host=$1 target=$2
  shift 2
  local name path
  for name in "$@"; do
    local -n _paths=$name
    # shellcheck disable=SC2068
    for path in ${_paths[@]-}; do
      findInputs "$path" "$host" "$target"
    done
    unset -n _paths
  done
}
_findAll -1 -1 depsBuildBuild depsBuildBuildPropagated
_findAll -1 0 nativeBuildInputs propagatedNativeBuildInputs
_findAll -1 1 depsBuildTarget depsBuildTargetPropagated
_findAll 0 0 depsHostHost depsHostHostPropagated
_findAll 0 1 buildInputs propagatedBuildInputs
_findAll 1 1 depsTargetTarget depsTargetTargetPropagated
_findAll -1 0 defaultNativeBuildInputs
_findAll 0 1 defaultBuildInputs

# Sources its setup hook. PATH is still only initialPath then.
activatePackage() {
  local pkg=$1
  local -r hostOffset=$2 targetOffset=$3
  if [[ -f $pkg ]]; then
    nixTalkativeLog "sourcing $pkg"
    source "$pkg"
  fi
  if [[ ! ${strictDeps-} ]] || ((hostOffset <= -1)); then
    addToSearchPath _PATH "$pkg/bin"
  fi
  if ((hostOffset <= -1)); then
    addToSearchPath _XDG_DATA_DIRS "$pkg/share"
  fi
  if ((hostOffset == 0)); then
    addToSearchPath _HOST_PATH "$pkg/bin"
  fi
  if [[ -f $pkg/nix-support/setup-hook ]]; then
    nixTalkativeLog "sourcing $pkg/nix-support/setup-hook"
    source "$pkg/nix-support/setup-hook"
  fi
}

_activatePkgs() {
  local _entry _host _target _role pkg
  for _entry in "${_roles[@]}"; do
    read -r _host _target <<< "$_entry"
    _roleName "$_host" "$_target"
    local -n _pkgs=pkgs$_role
    local -a _list=("${_pkgs[@]}")
    unset -n _pkgs
    for pkg in "${_list[@]}"; do
      activatePackage "$pkg" "$_host" "$_target"
    done
  done
}
_activatePkgs

# With strictDeps a hook sees the dependencies of its own role only. Without,
# each role's hooks see all dependencies of all roles.
_addToEnv() {
  local _entry _role pkg depHostOffset depTargetOffset
  for _entry in "${_roles[@]}"; do
    read -r depHostOffset depTargetOffset <<< "$_entry"
    _roleName "$depHostOffset" "$depTargetOffset"
    local -a _list=()
    if [[ ${strictDeps-} ]]; then
      local -n _pkgs=pkgs$_role
      _list=("${_pkgs[@]}")
      unset -n _pkgs
    else
      local -A _seen=()
      for pkg in "${pkgsBuildBuild[@]}" "${pkgsBuildHost[@]}" "${pkgsBuildTarget[@]}" \
        "${pkgsHostHost[@]}" "${pkgsHostTarget[@]}" "${pkgsTargetTarget[@]}"; do
        [[ ! ${_seen[$pkg]-} ]] || continue
        _seen[$pkg]=1
        _list+=("$pkg")
      done
    fi
    for pkg in "${_list[@]}"; do
      runHook "env${_role}Hook" "$pkg"
    done
  done
}
_addToEnv

_addRpathPrefix "$out"

export TZ=UTC
: "${prefix:=$out}"
if [[ ${useTempPrefix:-} == 1 ]]; then
  prefix=$NIX_BUILD_TOP/tmp_prefix
fi

PATH=${_PATH-}${_PATH:+${PATH:+:}}$PATH
HOST_PATH=${_HOST_PATH-}${_HOST_PATH:+${HOST_PATH:+:}}$HOST_PATH
export PATH XDG_DATA_DIRS=${_XDG_DATA_DIRS-}
unset -v _PATH _HOST_PATH _XDG_DATA_DIRS

: "${NIX_BUILD_CORES:=1}"
if ((NIX_BUILD_CORES <= 0)); then
  NIX_BUILD_CORES=$(nproc 2> /dev/null || echo 1)
fi
export NIX_BUILD_CORES

: "${NIX_SSL_CERT_FILE:=/no-cert-file.crt}" "${SSL_CERT_FILE:=/no-cert-file.crt}"
export NIX_SSL_CERT_FILE SSL_CERT_FILE

## Substitution in texts

# substituteStream VARIABLE DESCRIPTION OPTIONS...: prints the variable's text
# after all replacements.
substituteStream() {
  local -n _text=$1
  local -r description=$2
  shift 2
  local _old _new _mode _content=$_text
  unset -n _text
  while (($#)); do
    _mode=$1
    case $1 in
      --replace | --replace-fail | --replace-warn | --replace-quiet)
        _old=$2 _new=$3
        shift 3
        if [[ $_old != "$_new" && $_content != *"$_old"* ]]; then
          case $_mode in
            --replace-fail)
              echo "substituteStream(): ERROR: $description lacks the pattern ${_old@Q}" >&2
              return 1
              ;;
            --replace | --replace-warn)
              echo "substituteStream(): WARNING: $description lacks the pattern ${_old@Q}" >&2
              ;;
          esac
        fi
        ;;
      --subst-var)
        if [[ ! $2 =~ ^[a-zA-Z_][a-zA-Z0-9_]*$ || ! ${!2+set} ]]; then
          echo "substituteStream(): ERROR: $description: no variable named $2" >&2
          return 1
        fi
        _old=@$2@ _new=${!2}
        shift 2
        ;;
      --subst-var-by)
        _old=@$2@ _new=$3
        shift 3
        ;;
      *)
        echo "substituteStream(): ERROR: invalid argument: $1" >&2
        return 1
        ;;
    esac
    _content=${_content//"$_old"/"$_new"}
  done
  printf '%s' "$_content"
}

# consumeEntire VARIABLE < FILE
consumeEntire() {
  if IFS='' read -r -d '' "$1"; then
    echo "consumeEntire(): ERROR: the input has null bytes" >&2
    return 1
  fi
}

# substitute INPUT OUTPUT OPTIONS...
substitute() {
  local -r input=$1 output=$2
  shift 2
  if [[ ! -f $input ]]; then
    echo "substitute(): ERROR: file '$input' does not exist" >&2
    return 1
  fi
  local _given
  consumeEntire _given < "$input"
  [[ ! -e $output ]] || chmod +w "$output"
  substituteStream _given "file '$input'" "$@" > "$output"
}

substituteInPlace() {
  local -a files=()
  while (($#)) && [[ $1 != --* ]]; do
    files+=("$1")
    shift
  done
  local file
  for file in "${files[@]}"; do
    substitute "$file" "$file" "$@"
  done
}

# Every exported variable that starts with a small letter.
_allFlags() {
  export system pname name version
  local variable
  while IFS='' read -r variable; do
    [[ ! $variable =~ ^[a-z][a-zA-Z0-9_]*$ ]] || args+=(--subst-var "$variable")
  done < <(compgen -e)
}
substituteAllStream() {
  local -a args=()
  _allFlags
  substituteStream "$1" "$2" "${args[@]}"
}
substituteAll() {
  local -a args=()
  _allFlags
  substitute "$1" "$2" "${args[@]}"
}
substituteAllInPlace() {
  substituteAll "$1" "$1"
}

## Phases

# The environment, for whoever looks into a build directory that was kept.
dumpVars() {
  if [[ ${noDumpEnvVars:-0} != 1 ]]; then
    {
      install -m 600 /dev/null "$NIX_BUILD_TOP/env-vars" && export 2> /dev/null >| "$NIX_BUILD_TOP/env-vars"
    } || true
  fi
}

stripHash() {
  local base
  base=$(basename -- "$1")
  [[ ! $base =~ ^[a-z0-9]{32}- ]] || base=${base:33}
  echo "$base"
}

# Into the output for development, in the files that findInputs reads.
recordPropagatedDependencies() {
  local -rA attributes=(
    ['-1 -1']=depsBuildBuildPropagated
    ['-1 0']=propagatedNativeBuildInputs
    ['-1 1']=depsBuildTargetPropagated
    ['0 0']=depsHostHostPropagated
    ['0 1']=propagatedBuildInputs
    ['1 1']=depsTargetTargetPropagated
  )
  local role
  for role in "${_roles[@]}"; do
    local -n _deps=${attributes[$role]}
    if [[ ${_deps-} ]]; then
      mkdir -p "${!outputDev}/nix-support"
      # shellcheck disable=SC2068
      printWords ${_deps[@]} > "${!outputDev}/nix-support/${_propagationFile[$role]}"
    fi
    unset -n _deps
  done
}

_defaultUnpack() {
  local -r file=$1
  if [[ -d $file ]]; then
    local destination
    destination=$(stripHash "$file")
    if [[ -e $destination ]]; then
      echo "cannot copy $file: there is a $destination already"
      return 1
    fi
    cp -r --preserve=mode,timestamps --reflink=auto -- "$file" "$destination"
  else
    case $file in
      *.tar | *.tar.* | *.tgz | *.tbz2 | *.txz | *.tbz)
        tar xf "$file" --mode=+w --warning=no-timestamp
        ;;
      *) return 1 ;;
    esac
  fi
}
unpackCmdHooks+=(_defaultUnpack)

unpackFile() {
  curSrc=$1
  echo "unpacking source archive $curSrc"
  if ! runOneHook unpackCmd "$curSrc"; then
    echo "do not know how to unpack source archive $curSrc"
    exit 1
  fi
}

unpackPhase() {
  runHook preUnpack
  if [[ ! ${srcs[*]:-} ]]; then
    if [[ ! ${src:-} ]]; then
      echo "variable \$src or \$srcs should point to the source"
      exit 1
    fi
    srcs=$src
  fi
  local -a srcsArray=()
  concatTo srcsArray srcs

  # The source root is the directory that was not there before.
  local -A before=()
  local entry
  for entry in */; do
    before[$entry]=1
  done
  for entry in "${srcsArray[@]}"; do
    unpackFile "$entry"
  done

  : "${sourceRoot=}"
  if [[ ${setSourceRoot:-} ]]; then
    runOneHook setSourceRoot
  elif [[ ! $sourceRoot ]]; then
    for entry in */; do
      if [[ ! ${before[$entry]-} ]]; then
        if [[ $sourceRoot ]]; then
          echo "unpacker produced multiple directories"
          exit 1
        fi
        sourceRoot=${entry%/}
      fi
    done
  fi
  if [[ ! $sourceRoot ]]; then
    echo "unpacker appears to have produced no directories"
    exit 1
  fi
  echo "source root is $sourceRoot"
  if [[ ${dontMakeSourcesWritable:-0} != 1 ]]; then
    chmod -R u+w -- "$sourceRoot"
  fi
  runHook postUnpack
}

patchPhase() {
  runHook prePatch
  local -a patchesArray=()
  concatTo patchesArray patches
  local file unpack
  for file in "${patchesArray[@]}"; do
    echo "applying patch $file"
    case $file in
      *.gz) unpack=(gzip -dc) ;;
      *.bz2) unpack=(bzip2 -dc) ;;
      *.xz) unpack=(xz -dc) ;;
      *) unpack=(cat) ;;
    esac
    local -a flagsArray=()
    concatTo flagsArray patchFlags=-p1
    "${unpack[@]}" "$file" | patch "${flagsArray[@]}"
  done
  runHook postPatch
}

configurePhase() {
  runHook preConfigure
  : "${configureScript=}"
  if [[ ! $configureScript && -x ./configure ]]; then
    configureScript=./configure
  fi
  if [[ ! ${dontAddPrefix:-} && $prefix ]]; then
    prependToVar configureFlags "${prefixKey:---prefix=}$prefix"
  fi
  if [[ -f $configureScript ]]; then
    if [[ ! ${dontAddDisableDepTrack:-} ]] && grep -q dependency-tracking "$configureScript"; then
      prependToVar configureFlags --disable-dependency-tracking
    fi
    if [[ ! ${dontDisableStatic:-} ]] && grep -q enable-static "$configureScript"; then
      prependToVar configureFlags --disable-static
    fi
    if [[ ! ${dontPatchShebangsInConfigure:-} ]]; then
      patchShebangs --build "$configureScript"
    fi
  fi
  if [[ $configureScript ]]; then
    local -a flagsArray=()
    concatTo flagsArray configureFlags configureFlagsArray
    echoCmd 'configure flags' "${flagsArray[@]}"
    # shellcheck disable=SC2086
    $configureScript "${flagsArray[@]}"
  else
    echo "no configure script, doing nothing"
  fi
  runHook postConfigure
}

# Is there something to call make for?
_hasMakefile() {
  [[ ${makeFlags[*]-} || ${makefile:-} || -e Makefile || -e makefile || -e GNUmakefile ]]
}

# _make WHAT PARALLEL NAMES...: make with the words that concatTo finds under
# those names.
_make() {
  local -r what=$1 parallel=$2
  shift 2
  local -a flagsArray=(${parallel:+-j"$NIX_BUILD_CORES"} SHELL="$SHELL")
  concatTo flagsArray makeFlags makeFlagsArray "$@"
  echoCmd "$what flags" "${flagsArray[@]}"
  make ${makefile:+-f "$makefile"} "${flagsArray[@]}"
}

_makeHas() {
  make -n ${makefile:+-f "$makefile"} "$1" > /dev/null 2>&1
}

buildPhase() {
  runHook preBuild
  if _hasMakefile; then
    foundMakefile=1
    _make build "${enableParallelBuilding:-}" buildFlags buildFlagsArray
  else
    echo "no Makefile or custom buildPhase, doing nothing"
  fi
  runHook postBuild
}

checkPhase() {
  runHook preCheck
  if [[ ! ${foundMakefile:-} ]]; then
    echo "no Makefile or custom checkPhase, doing nothing"
  else
    local target
    for target in check test; do
      if [[ ! ${checkTarget:-} ]] && _makeHas "$target"; then
        checkTarget=$target
      fi
    done
    if [[ ${checkTarget:-} ]]; then
      _make check "${enableParallelChecking:-}" checkFlags=VERBOSE=y checkFlagsArray checkTarget
    else
      echo "no check/test target in ${makefile:-Makefile}, doing nothing"
    fi
  fi
  runHook postCheck
}

installPhase() {
  runHook preInstall
  if _hasMakefile; then
    foundMakefile=1
    [[ ! $prefix ]] || mkdir -p "$prefix"
    _make install "${enableParallelInstalling:-}" installFlags installFlagsArray installTargets=install
  else
    echo "no Makefile or custom installPhase, doing nothing"
  fi
  runHook postInstall
}

fixupPhase() {
  local output
  for output in $(getAllOutputNames); do
    # s bits: Nix refuses them in the store
    [[ ! -e ${!output} ]] || chmod -R u+w,u-s,g-s "${!output}"
  done

  runHook preFixup

  for output in $(getAllOutputNames); do
    prefix="${!output}" runHook fixupOutput
  done

  recordPropagatedDependencies
  if [[ ${setupHook:-} ]]; then
    mkdir -p "${!outputDev}/nix-support"
    substituteAll "$setupHook" "${!outputDev}/nix-support/setup-hook"
  fi
  if [[ ${setupHooks[*]:-} ]]; then
    mkdir -p "${!outputDev}/nix-support"
    local file content
    # shellcheck disable=SC2068
    for file in ${setupHooks[@]}; do
      consumeEntire content < "$file"
      substituteAllStream content "file '$file'" >> "${!outputDev}/nix-support/setup-hook"
    done
  fi
  if [[ ${propagatedUserEnvPkgs[*]:-} ]]; then
    mkdir -p "${!outputBin}/nix-support"
    # shellcheck disable=SC2068
    printWords ${propagatedUserEnvPkgs[@]} > "${!outputBin}/nix-support/propagated-user-env-packages"
  fi

  runHook postFixup
}

installCheckPhase() {
  runHook preInstallCheck
  if [[ ! ${foundMakefile:-} ]]; then
    echo "no Makefile or custom installCheckPhase, doing nothing"
  elif [[ ! ${installCheckTarget:-} ]] && ! _makeHas installcheck; then
    echo "no installcheck target in ${makefile:-Makefile}, doing nothing"
  else
    _make installcheck "${enableParallelChecking:-}" \
      installCheckFlags installCheckFlagsArray installCheckTarget=installcheck
  fi
  runHook postInstallCheck
}

distPhase() {
  runHook preDist
  local -a flagsArray=()
  concatTo flagsArray distFlags distFlagsArray distTarget=dist
  echoCmd 'dist flags' "${flagsArray[@]}"
  make ${makefile:+-f "$makefile"} "${flagsArray[@]}"
  if [[ ${dontCopyDist:-0} != 1 ]]; then
    mkdir -p "$out/tarballs"
    # shellcheck disable=SC2086
    cp -p ${tarballs[*]:-*.tar.gz} "$out/tarballs"
  fi
  runHook postDist
}

# Switched off (dontXxx) or, for three of them, not switched on (doXxx)?
_skipped() {
  local switch
  case $1 in
    checkPhase | installCheckPhase | distPhase)
      switch=${1%Phase}
      switch=do${switch^}
      [[ ! ${!switch:-} ]]
      ;;
    unpackPhase | patchPhase | configurePhase | buildPhase | installPhase | fixupPhase)
      switch=${1%Phase}
      switch=dont${switch^}
      [[ ${!switch:-} ]]
      ;;
    *) return 1 ;;
  esac
}

showPhaseHeader() {
  echo "Running phase: $1"
  if [[ ${NIX_LOG_FD-} ]]; then
    printf '@nix { "action": "setPhase", "phase": "%s" }\n' "$1" >&"$NIX_LOG_FD"
  fi
}

runPhase() {
  local curPhase=$*
  if _skipped "$curPhase"; then
    return
  fi
  showPhaseHeader "$curPhase"
  dumpVars
  # the attribute of that name, else the function
  eval "${!curPhase:-$curPhase}"
  if [[ $curPhase == unpackPhase ]]; then
    [[ ! ${sourceRoot:-} ]] || chmod +x -- "$sourceRoot"
    cd -- "${sourceRoot:-.}"
  fi
}

genericBuild() {
  export GZIP_NO_TIMESTAMPS=1
  if [[ -f ${buildCommandPath:-} ]]; then
    source "$buildCommandPath"
    return
  fi
  if [[ ${buildCommand:-} ]]; then
    eval "$buildCommand"
    return
  fi
  if [[ ! ${phases[*]:-} ]]; then
    phases="${prePhases[*]:-} unpackPhase patchPhase ${preConfigurePhases[*]:-} configurePhase \
      ${preBuildPhases[*]:-} buildPhase checkPhase ${preInstallPhases[*]:-} installPhase \
      ${preFixupPhases[*]:-} fixupPhase installCheckPhase ${preDistPhases[*]:-} distPhase ${postPhases[*]:-}"
  fi
  for curPhase in ${phases[*]}; do
    runPhase "$curPhase"
  done
}

runHook postHook
runHook userHook
dumpVars

[[ $_flagsOfCaller == *e* ]] || set +e
[[ $_flagsOfCaller == *u* ]] || set +u
unset -v _flagsOfCaller
