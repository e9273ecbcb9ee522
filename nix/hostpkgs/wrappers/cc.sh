#!@bash@/bin/bash
# Runs gcc with the store's headers, C library and linker instead of the host's.
set -uo pipefail

support=@out@/nix-support
link=1 cxx='' stdinc=1 stdincxx=1 inputs=''
[[ @program@ == *++ ]] && cxx=1

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

previous=''
for arg in "${given[@]}"; do
  case $previous in
    -x)
      [[ $arg == c++* ]] && cxx=1
      [[ $arg == *-header ]] && link=''
      ;;
    *)
      case $arg in
        -c | -S | -E | -M | -MM | -fsyntax-only) link='' ;;
        -xc++*) cxx=1 ;;
        -nostdinc) stdinc='' ;;
        -nostdinc++) stdincxx='' ;;
        -*) ;;
        *.cc | *.cpp | *.cxx | *.C | *.hpp)
          cxx=1 inputs=1
          ;;
        *) inputs=1 ;;
      esac
      ;;
  esac
  previous=$arg
done
# gcc --version, -dumpmachine and the like
[[ $inputs ]] || link=''

words() {
  local -n array=$1
  local -a line
  read -r -d '' -a line < "$support/$2"
  array+=("${line[@]}")
}

declare -a before=() after=()
words before cc-bflags

read -r -d '' -a flags <<< "${NIX_CFLAGS_COMPILE-}"
after+=("${flags[@]}")
if [[ $cxx ]]; then
  read -r -d '' -a flags <<< "${NIX_CXXSTDLIB_COMPILE-}"
  after+=("${flags[@]}")
fi
if [[ $stdinc ]]; then
  before+=(-nostdinc)
  [[ $cxx && $stdincxx ]] && words after libcxx-cxxflags
  words after cc-cflags
fi

if [[ $link ]]; then
  read -r -d '' -a flags <<< "${NIX_CFLAGS_LINK-}"
  after+=("${flags[@]}")

  declare -a ldflags=()
  read -r -d '' -a flags <<< "${NIX_LDFLAGS_BEFORE-}"
  for flag in "${flags[@]}"; do
    before+=("-Wl,$flag")
  done
  read -r -d '' -a ldflags <<< "${NIX_LDFLAGS-}"
  words ldflags libc-ldflags
  words ldflags cc-ldflags
  for flag in "${ldflags[@]}"; do
    # -L as gcc's own, so that -B and -print-file-name see it too
    case $flag in
      -L/*) after+=("$flag") ;;
      *) after+=("-Wl,$flag") ;;
    esac
  done
  # The linker's wrapper need not add them again.
  export NIX_LDFLAGS_SET=1
fi

exec @program@ "${before[@]}" "${given[@]}" "${after[@]}"
