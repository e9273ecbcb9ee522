# shellcheck shell=bash
# Python packages among the dependencies are found by whatever python runs.
addPythonPath() {
  addToSearchPathWithCustomDelimiter : PYTHONPATH "$1/lib/python3.11/site-packages"
}
# shellcheck disable=SC2154
addEnvHooks "$hostOffset" addPythonPath
