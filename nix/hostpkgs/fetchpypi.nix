# A source distribution of PyPI, fetched by the host's pip from wherever pip is
# configured to look. The hash is that of the file, as nixpkgs' fetchPypi has it.
{ lib, host }:
lib.makeOverridable (
  {
    pname,
    version,
    hash ? "",
    sha256 ? "",
    extension ? "tar.gz",
    # accepted for nixpkgs' sake
    format ? "setuptools",
  }:
  assert format == "setuptools";
  host.hostDerivation {
    inherit pname version;
    name = "${pname}-${version}.${extension}";
    outputHashMode = "flat";
    outputHashAlgo = if hash != "" then null else "sha256";
    outputHash = if hash != "" then hash else sha256;
    __ignoreNulls = true;
    inherit extension;
    package = pname;
    release = version;
    # pip asks a package's build system for metadata before it hands out the
    # file. This one answers for all of them.
    metadataOnly = ./metadata-only;
    impureEnvVars = [
      "PIP_CERT"
      "PIP_CONFIG_FILE"
      "PIP_DEFAULT_TIMEOUT"
      "PIP_EXTRA_INDEX_URL"
      "PIP_FIND_LINKS"
      "PIP_INDEX_URL"
      "PIP_NO_INDEX"
      "PIP_PROXY"
      "PIP_TRUSTED_HOST"
      "REQUESTS_CA_BUNDLE"
      "SSL_CERT_FILE"
      "XDG_CONFIG_HOME"
      "all_proxy"
      "ftp_proxy"
      "http_proxy"
      "https_proxy"
      "no_proxy"
      "ALL_PROXY"
      "HTTP_PROXY"
      "HTTPS_PROXY"
      "NO_PROXY"
    ];
    script = ''
      # Without HOME, pip asks the user database for the place of its settings.
      unset HOME
      # An empty value would count as a setting.
      while IFS='=' read -r name value; do
        [ -n "$value" ] || unset "$name"
      done < <(env)
      export PYTHONPATH=$metadataOnly PYTHONDONTWRITEBYTECODE=1
      mkdir sdist
      /usr/bin/python3 -m pip download --disable-pip-version-check --no-cache-dir --quiet \
        --no-deps --no-binary :all: --no-build-isolation --use-pep517 \
        --dest sdist "$package==$release"
      mv sdist/*."$extension" "$out"
    '';
  }
)
