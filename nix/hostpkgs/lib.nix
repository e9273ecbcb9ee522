# The part of nixpkgs' `lib` that this project's expressions call.
let
  inherit (builtins)
    attrNames
    baseNameOf
    concatMap
    elem
    elemAt
    filter
    foldl'
    genList
    head
    isAttrs
    isFunction
    isList
    isString
    length
    listToAttrs
    map
    match
    removeAttrs
    replaceStrings
    stringLength
    substring
    tail
    ;
in
rec {
  inherit (builtins)
    all
    any
    attrNames
    attrValues
    baseNameOf
    compareVersions
    concatMap
    concatStringsSep
    elem
    elemAt
    filter
    foldl'
    functionArgs
    genList
    hasAttr
    head
    intersectAttrs
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    length
    listToAttrs
    mapAttrs
    pathExists
    readFile
    removeAttrs
    replaceStrings
    sort
    splitVersion
    stringLength
    substring
    tail
    toJSON
    trace
    tryEval
    typeOf
    ;

  ## Functions

  id = x: x;
  const = x: _: x;
  flip =
    f: a: b:
    f b a;
  pipe = foldl' (x: f: f x);
  fix =
    f:
    let
      x = f x;
    in
    x;
  extends =
    overlay: f: final:
    let
      prev = f final;
    in
    prev // overlay final prev;
  composeExtensions =
    f: g: final: prev:
    let
      first = f final prev;
    in
    first // g final (prev // first);
  composeManyExtensions = foldl' composeExtensions (_: _: { });
  setFunctionArgs = f: args: {
    __functor = _: f;
    __functionArgs = args;
  };
  toFunction = x: if isFunction x then x else _: x;
  # builtins.functionArgs, seeing through setFunctionArgs
  argsOf = f: if f ? __functionArgs then f.__functionArgs else builtins.functionArgs f;

  makeOverridable =
    f:
    setFunctionArgs (
      args:
      let
        result = f args;
        again = new: makeOverridable f (args // (if isFunction new then new args else new));
      in
      if isAttrs result then
        result
        // {
          override = again;
        }
        // optionalAttrs (result ? overrideAttrs) {
          overrideAttrs = change: makeOverridable (a: (f a).overrideAttrs change) args;
        }
      else
        result
    ) (argsOf f);

  callPackageWith =
    scope: fileOrFunction: args:
    let
      f = if isFunction fileOrFunction then fileOrFunction else import fileOrFunction;
    in
    makeOverridable f (builtins.intersectAttrs (argsOf f) scope // args);

  ## Warnings and assertions

  warn = message: builtins.trace "warning: ${message}";
  warnIf = condition: message: if condition then warn message else id;
  throwIf = condition: message: if condition then throw message else id;
  throwIfNot = condition: throwIf (!condition);
  assertMsg = condition: message: condition || throw message;
  showVals = builtins.toJSON;

  ## Attribute sets

  genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
  nameValuePair = name: value: { inherit name value; };
  mapAttrs' = f: set: listToAttrs (mapAttrsToList f set);
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  filterAttrs =
    keep: set: removeAttrs set (filter (name: !keep name set.${name}) (attrNames set));
  optionalAttrs = condition: set: if condition then set else { };
  mergeAttrsList = foldl' (a: b: a // b) { };
  recursiveUpdate =
    a: b:
    a
    // builtins.mapAttrs (
      name: value:
      if isAttrs value && isAttrs (a.${name} or null) then recursiveUpdate a.${name} value else value
    ) b;
  attrByPath =
    path: default: set:
    if path == [ ] then
      set
    else if set ? ${head path} then
      attrByPath (tail path) default set.${head path}
    else
      default;
  getAttrs = names: set: genAttrs names (name: set.${name});
  foldlAttrs =
    f: start: set:
    foldl' (acc: name: f acc name set.${name}) start (attrNames set);
  recurseIntoAttrs = set: set // { recurseForDerivations = true; };
  dontRecurseIntoAttrs = set: set // { recurseForDerivations = false; };
  isDerivation = x: x.type or null == "derivation";

  ## Lists

  optional = condition: x: if condition then [ x ] else [ ];
  optionals = condition: list: if condition then list else [ ];
  flatten = x: if isList x then concatMap flatten x else [ x ];
  concatLists = builtins.concatLists;
  toList = x: if isList x then x else [ x ];
  findFirst =
    wanted: default: list:
    let
      found = filter wanted list;
    in
    if found == [ ] then default else head found;
  unique = foldl' (acc: x: if elem x acc then acc else acc ++ [ x ]) [ ];
  last = list: elemAt list (length list - 1);
  init = list: genList (elemAt list) (length list - 1);
  reverseList = list: genList (i: elemAt list (length list - 1 - i)) (length list);
  imap0 = f: list: genList (i: f i (elemAt list i)) (length list);
  range = from: to: if from > to then [ ] else genList (i: from + i) (to - from + 1);
  remove = x: filter (y: y != x);
  subtractLists = gone: filter (x: !elem x gone);
  partition = builtins.partition;
  groupBy = builtins.groupBy;
  zipListsWith =
    f: a: b:
    genList (i: f (elemAt a i) (elemAt b i)) (if length a < length b then length a else length b);
  foldr =
    f: start: list:
    foldl' (acc: x: f x acc) start (reverseList list);
  cartesianProduct =
    set:
    foldl' (
      acc: name: concatMap (partial: map (value: partial // { ${name} = value; }) set.${name}) acc
    ) [ { } ] (attrNames set);

  ## Strings

  optionalString = condition: s: if condition then s else "";
  concatStrings = builtins.concatStringsSep "";
  concatMapStrings = f: list: concatStrings (map f list);
  concatMapStringsSep =
    sep: f: list:
    builtins.concatStringsSep sep (map f list);
  concatMapAttrsStringSep =
    sep: f: set:
    builtins.concatStringsSep sep (mapAttrsToList f set);
  concatLines = concatMapStrings (line: line + "\n");
  hasPrefix = prefix: s: substring 0 (stringLength prefix) s == prefix;
  hasSuffix =
    suffix: s:
    let
      rest = stringLength s - stringLength suffix;
    in
    rest >= 0 && substring rest (-1) s == suffix;
  hasInfix = infix: s: replaceStrings [ infix ] [ "" ] s != "${s}";
  removePrefix =
    prefix: s: if hasPrefix prefix s then substring (stringLength prefix) (-1) s else s;
  removeSuffix =
    suffix: s:
    if hasSuffix suffix s then substring 0 (stringLength s - stringLength suffix) s else s;
  splitString = sep: s: filter isString (builtins.split (escapeRegex sep) s);
  escapeRegex =
    let
      special = [ "\\" ] ++ map (i: substring i 1 "[{()^$?*+|.") (range 0 10);
    in
    replaceStrings special (map (c: "\\" + c) special);
  trim =
    s:
    let
      inner = match "[[:space:]]*(.*[^[:space:]])[[:space:]]*" s;
    in
    if inner == null then "" else head inner;
  fileContents = file: removeSuffix "\n" (builtins.readFile file);
  escapeShellArg =
    x:
    let
      s = toString x;
    in
    if match "[[:alnum:],._+:@%/-]+" s != null then
      s
    else
      "'${replaceStrings [ "'" ] [ "'\\''" ] s}'";
  escapeShellArgs = concatMapStringsSep " " escapeShellArg;
  toUpper = replaceStrings (characters lower) (characters upper);
  toLower = replaceStrings (characters upper) (characters lower);
  characters = s: genList (i: substring i 1 s) (stringLength s);
  lower = "abcdefghijklmnopqrstuvwxyz";
  upper = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
  boolToString = b: if b then "true" else "false";
  getName =
    x: if isString x then (builtins.parseDrvName x).name else x.pname or (getName x.name);
  getVersion =
    x: if isString x then (builtins.parseDrvName x).version else x.version or (getVersion x.name);
  versionAtLeast = a: b: builtins.compareVersions a b >= 0;
  versionOlder = a: b: builtins.compareVersions a b < 0;
  versions = {
    major = v: elemAt (builtins.splitVersion v) 0;
    minor = v: elemAt (builtins.splitVersion v) 1;
    majorMinor = v: builtins.concatStringsSep "." (genList (elemAt (builtins.splitVersion v)) 2);
  };
  importJSON = file: builtins.fromJSON (builtins.readFile file);

  ## Outputs of packages

  getOutput =
    output:
    getFirstOutput [
      output
      "out"
    ];
  getFirstOutput =
    candidates: pkg:
    let
      found = filter (output: pkg ? ${output}) candidates;
    in
    if pkg.outputSpecified or false || found == [ ] then pkg else pkg.${head found};
  getLib = getFirstOutput [
    "lib"
    "out"
  ];
  getDev = getFirstOutput [
    "dev"
    "out"
  ];
  getBin = getFirstOutput [
    "bin"
    "out"
  ];
  getMan = getFirstOutput [
    "man"
    "bin"
    "out"
  ];
  getExe' = pkg: name: "${getBin pkg}/bin/${name}";
  getExe = pkg: getExe' pkg (pkg.meta.mainProgram or (getName pkg));
  makeSearchPath = dir: concatMapStringsSep ":" (pkg: "${pkg}/${dir}");
  makeSearchPathOutput =
    output: dir: pkgs:
    makeSearchPath dir (map (getOutput output) pkgs);
  makeLibraryPath = pkgs: makeSearchPath "lib" (map getLib pkgs);
  makeBinPath = pkgs: makeSearchPath "bin" (map getBin pkgs);

  ## Sources

  cleanSourceFilter =
    path: type:
    let
      versionControl = [
        ".git"
        ".hg"
        ".svn"
        "CVS"
      ];
      name = baseNameOf path;
    in
    !(
      type == "directory" && elem name versionControl
      || hasSuffix "~" name
      || match "^\\.sw[a-z]$" name != null
      || match "^\\..*\\.sw[a-z]$" name != null
      || hasSuffix ".o" name
      || hasSuffix ".so" name
      || type == "symlink" && hasPrefix "result" name
      || type == "unknown"
    );
  cleanSource =
    src:
    cleanSourceWith {
      inherit src;
      filter = cleanSourceFilter;
    };
  # A source may be filtered again: the filters add up, as in nixpkgs.
  cleanSourceWith =
    {
      src,
      filter ? _: _: true,
      name ? src.name or "source",
    }:
    let
      origSrc = src.origSrc or src;
      both = path: type: (src.filter or (_: _: true)) path type && filter path type;
    in
    {
      inherit name origSrc;
      filter = both;
      outPath = builtins.path {
        inherit name;
        path = origSrc;
        filter = both;
      };
      _isLibCleanSourceWith = true;
    };
  sourceByRegex =
    src: regexes:
    let
      top = toString (src.origSrc or src);
    in
    cleanSourceWith {
      inherit src;
      filter =
        path: _:
        let
          relative = removePrefix "${top}/" (toString path);
        in
        builtins.any (regex: match regex relative != null) regexes;
    };
  sourceFilesBySuffices =
    src: suffixes:
    cleanSourceWith {
      inherit src;
      filter =
        path: type:
        type == "directory" || builtins.any (suffix: hasSuffix suffix (baseNameOf path)) suffixes;
    };
  sources = {
    inherit
      cleanSource
      cleanSourceWith
      cleanSourceFilter
      sourceByRegex
      sourceFilesBySuffices
      ;
  };

  ## Names that `meta` uses

  licenses =
    let
      license = spdxId: {
        inherit spdxId;
        free = true;
        shortName = toLower spdxId;
      };
    in
    {
      mit = license "MIT";
      bsd3 = license "BSD-3-Clause";
      gpl3Plus = license "GPL-3.0-or-later";
      lgpl21Plus = license "LGPL-2.1-or-later";
      unlicense = license "Unlicense";
    };
  maintainers = { };
  teams = { };
  sourceTypes = { };
  platforms = rec {
    linux = [
      "x86_64-linux"
      "aarch64-linux"
      "i686-linux"
      "armv7l-linux"
      "powerpc64le-linux"
      "riscv64-linux"
    ];
    unix = linux;
    all = unix;
  };
  systems = {
    flakeExposed = [ "x86_64-linux" ];
    elaborate = import ./platform.nix;
  };
}
