#!@bash@/bin/bash
# Runs ld so that what it makes has its interpreter and its RUNPATH in the store.
set -uo pipefail
PATH=@coreutils@/bin

support=@out@/nix-support
store=${NIX_STORE:-/nix/store}

# May a link refer to it?
pure() {
  [[ $1 != /* || $1 == "$store"/* || $1 == /tmp/* || $1 == /build/* ]] ||
    [[ ${NIX_BUILD_TOP-} && $1 == "$NIX_BUILD_TOP"* ]] ||
    [[ ${TMPDIR-} && $1 == "$TMPDIR"* ]]
}

# xargs reads a response file as gcc and ld do: words, quotes and backslashes.
declare -a given=()
for arg in "$@"; do
  if [[ $arg == @* && -f ${arg#@} ]]; then
    readarray -d '' -t words < <(@findutils@/bin/xargs -r @coreutils@/bin/printf '%s\0' < "${arg#@}")
    given+=("${words[@]}")
  else
    given+=("$arg")
  fi
done

if [[ ! ${NIX_LDFLAGS_SET-} ]]; then
  read -r -d '' -a flags <<< "${NIX_LDFLAGS_BEFORE-}"
  given=("${flags[@]}" "${given[@]}")
  read -r -d '' -a flags <<< "${NIX_LDFLAGS-} $(< "$support/libc-ldflags")"
  given+=("${flags[@]}")
fi

# Without the host's directories, which gcc names by default, and its loader.
declare -a params=()
declare static='' shared='' relocatable=''
for arg in "${given[@]}"; do
  case $arg in
    -static | -static-pie | --no-dynamic-linker) static=1 ;;
    -shared | -Bshareable) shared=1 ;;
    -r | -i | --relocatable) relocatable=1 ;;
  esac
done
n=${#given[@]}
for ((i = 0; i < n; i++)); do
  arg=${given[i]}
  next=${given[i + 1]-}
  case $arg in
    -L/*) pure "${arg#-L}" || continue ;;
    -L | -rpath | --rpath | -dynamic-linker | --dynamic-linker)
      # glibc crashes in a static-pie program that has a search path
      if [[ $static && $arg == *-rpath ]] || ! pure "$next"; then
        i=$((i + 1))
        continue
      fi
      ;;
    -rpath=* | --rpath=* | -dynamic-linker=* | --dynamic-linker=*)
      [[ ! $static || $arg != *-rpath=* ]] && pure "${arg#*=}" || continue
      ;;
    -plugin | -soname | -h | -o | -plugin-opt)
      params+=("$arg")
      i=$((i + 1))
      arg=$next
      ;;
    /*.so | /*.so.* | /*.a | /*.o)
      if [[ ${NIX_ENFORCE_PURITY-} == 1 ]] && ! pure "$arg"; then
        echo "impure path '$arg' used in link" >&2
        exit 1
      fi
      ;;
  esac
  params+=("$arg")
done

declare -a extraBefore=() extraAfter=()
if [[ ! $static && ! $shared && ! $relocatable ]]; then
  extraBefore+=(-dynamic-linker "$(< "$support/dynamic-linker")")
fi
# The directories that the host's ld would search by itself.
extraBefore+=(-nostdlib)

# -rpath for each -L directory in the store that holds a library linked to.
# Only names count, as in nixpkgs: a library's SONAME is not looked at.
if [[ ${NIX_DONT_SET_RPATH-} != 1 && ! $static && ! $relocatable ]]; then
  declare -a dirs=()
  declare -A libs=() seen=()
  previous=''
  for arg in "${params[@]}"; do
    case $previous in
      -L) dirs+=("$arg") ;;
      -l) libs["lib$arg.so"]=1 ;;
      -dynamic-linker | -plugin | -plugin-opt | -soname | -h | -o | -rpath) ;;
      *)
        case $arg in
          -L?*) dirs+=("${arg#-L}") ;;
          -l?*) libs["lib${arg#-l}.so"]=1 ;;
          "$store"/*.so | "$store"/*.so.*)
            dirs+=("${arg%/*}")
            libs["${arg##*/}"]=1
            ;;
        esac
        ;;
    esac
    previous=$arg
  done
  for dir in "${dirs[@]}"; do
    if [[ $dir == *//* || $dir == *..* ]]; then
      dir=$(realpath -m -- "$dir")
    fi
    [[ $dir == "$store"/* && ! ${seen[$dir]-} ]] || continue
    seen[$dir]=1
    for lib in "${!libs[@]}"; do
      if [[ -f $dir/$lib ]]; then
        extraAfter+=(-rpath "$dir")
        break
      fi
    done
  done
fi

exec @program@ "${extraBefore[@]}" "${params[@]}" "${extraAfter[@]}"
