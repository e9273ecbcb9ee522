# shellcheck shell=bash
[[ -z ${strictDeps-} || $hostOffset -lt 0 ]] || return 0

pkgConfigWrapper_addPkgConfigPath() {
  addToSearchPath PKG_CONFIG_PATH "$1/lib/pkgconfig"
  addToSearchPath PKG_CONFIG_PATH "$1/share/pkgconfig"
}
# shellcheck disable=SC2154
addEnvHooks "$targetOffset" pkgConfigWrapper_addPkgConfigPath

export PKG_CONFIG=pkg-config
