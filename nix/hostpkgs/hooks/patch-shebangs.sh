# shellcheck shell=bash
# The interpreters of scripts become those of PATH or, for what is to run on the
# host platform, of HOST_PATH.
fixupOutputHooks+=(patchShebangsAuto)

# patchShebangs [--build|--host] [--update] [--] FILE|DIRECTORY...
patchShebangs() {
  local where='' update=''
  while [[ ${1-} == --* ]]; do
    case $1 in
      --build) where=PATH ;;
      --host) where=HOST_PATH ;;
      --update) update=1 ;;
      --)
        shift
        break
        ;;
      *)
        echo "patchShebangs: unknown option $1" >&2
        return 1
        ;;
    esac
    shift
  done
  echo "patching script interpreter paths in $*"

  local file path line old rest new program stamp
  stamp=$(mktemp "${TMPDIR:-/tmp}/shebang.XXXXXX")
  while IFS='' read -r -d '' file; do
    isScript "$file" || continue
    IFS=$'\r\n' read -r line < "$file" || [[ $line ]]
    read -r old rest <<< "${line#\#!}"
    [[ $old ]] || continue
    if [[ ! $update && $old == "$NIX_STORE"/* ]]; then
      continue
    fi

    path=$where
    if [[ ! $path ]]; then
      path=PATH
      [[ ! ${strictDeps-} || $file != "$NIX_STORE"/* ]] || path=HOST_PATH
    fi
    program=${old##*/}
    if [[ $program == env ]]; then
      case $rest in
        '-S '*)
          new=$(PATH=${!path} type -P env || true)
          ;;
        -* | *=*)
          echo "$file: unsupported interpreter directive: $line" >&2
          exit 1
          ;;
        *)
          read -r program rest <<< "$rest"
          new=$(PATH=${!path} type -P "$program" || true)
          ;;
      esac
    else
      new=$(PATH=${!path} type -P "$program" || true)
    fi
    if [[ $new && $new != "$old" ]]; then
      echo "$file: interpreter directive changed from \"$line\" to \"$new${rest:+ $rest}\""
      touch -r "$file" "$stamp"
      {
        printf '#!%s\n' "$new${rest:+ $rest}"
        tail -n +2 "$file"
      } > "$stamp.new"
      cat "$stamp.new" > "$file"
      touch -r "$stamp" "$file"
    fi
  done < <(find "$@" -type f -perm -0100 -print0)
  rm -f "$stamp" "$stamp.new"
}

patchShebangsAuto() {
  if [[ ! ${dontPatchShebangs-} && -e $prefix ]]; then
    # what lies in dev runs while others are built
    if [[ $output != out && $output == "$outputDev" ]]; then
      patchShebangs --build "$prefix"
    else
      patchShebangs --host "$prefix"
    fi
  fi
}
