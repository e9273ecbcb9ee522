# audit says of a finished package what the program says of it, as a derivation of its own that refers to nothing; auditSet joins those of
# a set, and what cannot be evaluated is counted.
{
  pkgs,
  lib,
  harden,
  chain,
  program,
  library,
  expect,
  fails,
  same,
}:
let
  inherit (chain { }) libb program';
  hardened =
    (chain {
      a = true;
      b = true;
      app = true;
    }).program';
  audited = harden.audit program';
  lost = program {
    name = "app";
    needs = [ (library { name = "a"; }) ];
    # the search path is gone, so that the library is found nowhere
    attributes.postFixup = "patchelf --remove-rpath $out/bin/app";
  };
  set = {
    inherit libb lost;
    app = program';
    broken = throw "it is broken";
    function = _: 1;
    version = "1.0";
  };
  joined = harden.auditSet { inherit set; };
  after = harden.auditSet {
    set = set // {
      app = hardened;
      lost = libb;
    };
    except = [
      "libb"
      (package: package.name == libb.name)
    ];
    before = joined;
  };
in
{
  works = expect "audit" ''
    [[ $(ls ${audited}) == "audit.json"$'\n'"audit.sarif" ]]
    grep -F '"lookups": {' ${audited}/audit.json
    grep -F '"name": "nix-harden"' ${audited}/audit.sarif
    grep -E "/nix/store/[0-9a-z]{8}-app/bin/app" ${audited}/audit.json
  '';
  it-refers-to-nothing = pkgs.runCommand "audit-alone" { allowedReferences = [ ]; } "cp -r ${audited} $out";
  it-is-of-the-package-as-it-is = same audited.audited program';
  what-was-asked-for-fails = fails (harden.auditWith { failOn = [ "missing-target" ]; } lost) [
    "missing-target"
    "liba.so.1"
  ];
  what-was-not-asked-for-passes = expect "passes" ''
    [[ -e ${harden.auditWith { failOn = [ "soname-twice" ]; } lost}/audit.json ]]
    [[ -e ${harden.audit lost}/audit.json ]]
  '';
  a-set = expect "set" ''
    [[ $(head -1 ${joined}/set.csv) == name,* && $(wc -l < ${joined}/set.csv) == 4 ]] || fail "$(cat ${joined}/set.csv)"
    grep -F "nix-harden audit-set" ${joined}/index.html
    grep -F '"broken"' ${joined}/set.json
    [[ "${toString (lib.attrNames joined.audits)} ${toString joined.unknown}" == "app libb lost broken" ]]
  '';
  a-trend = expect "trend" ''
    grep -F "Since the state before" ${after}/index.html
    [[ $(cut -d, -f1 ${after}/set.csv | tr '\n' ' ') == "name app " ]] || fail "$(cat ${after}/set.csv)"
  '';
  an-empty-set-is-refused =
    assert !(builtins.tryEval (harden.auditSet { set = { }; })).success;
    audited;
}
