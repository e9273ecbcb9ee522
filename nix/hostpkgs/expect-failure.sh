# shellcheck shell=bash
# shellcheck disable=SC1090,SC1091,SC2154
# Runs the builder that is given with its arguments, keeps its log and turns its
# exit status round.
set -eu -o pipefail

# for the outputs' paths; the builder reads its own
if [[ -e ${NIX_ATTRS_SH_FILE-} ]]; then
  source "$NIX_ATTRS_SH_FILE"
elif [[ -e .attrs.sh ]]; then
  source .attrs.sh
fi
declare -A paths=()
first=''
if [[ $(declare -p outputs 2> /dev/null) == 'declare -A'* ]]; then
  for name in "${!outputs[@]}"; do
    paths[$name]=${outputs[$name]}
  done
  [[ ! ${paths[out]-} ]] || first=out
else
  for name in ${outputs:-out}; do
    paths[$name]=${!name}
    : "${first:=$name}"
  done
fi
: "${first:=${!paths[*]}}"
first=${first%% *}
bin=$coreutilsForTester/bin
log=${TMPDIR:-$NIX_BUILD_TOP}/testBuildFailure.log

echo "testBuildFailure: expecting a failure of: ${*@Q}"
status=0
("$@" 2>&1) | "$bin/tee" "$log" | while IFS='' read -r line; do
  echo "original builder: $line"
done || status=${PIPESTATUS[0]}
if [[ $status == 0 ]]; then
  echo "testBuildFailure: The builder did not fail, but a failure was expected!"
  exit 1
fi
echo "testBuildFailure: Original builder produced exit code: $status"

default=${paths[$first]}
if [[ -e $default && ! -d $default ]]; then
  "$bin/mv" "$default" "$NIX_BUILD_TOP/out-node"
  "$bin/mkdir" "$default"
  "$bin/mv" "$NIX_BUILD_TOP/out-node" "$default/result"
fi
for name in "${!paths[@]}"; do
  [[ -e ${paths[$name]} ]] || "$bin/mkdir" "${paths[$name]}"
done
"$bin/mv" "$log" "$default/testBuildFailure.log"
echo "$status" > "$default/testBuildFailure.exit"
