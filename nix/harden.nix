# Hardens more than one derivation: a package set, a stdenv, a part of a set. docs/interfaces.md tells how to use it.
{
  lib,
  # the hook for a derivation that comes without its package set
  hookFor,
}:
let
  exceptions = import ./exceptions.nix { inherit lib; };
  fromUnhardened = lib.concatMap (rule: rule.attributes or [ ]) exceptions;
  modes = [
    "soname"
    "needed"
  ];

  complain = sentence: throw "nix-harden-needed: ${sentence}";
  nameOf = attrs: attrs.pname or (builtins.parseDrvName (attrs.name or "")).name;
  isHook = input: input.isNixHardenNeeded or false;

  # Where every package has the hook, no SONAME has to carry a path to what links without it, and a loaded library goes on
  # answering its bare name. A chosen part is bound to by its SONAMEs.
  modeOfSet = "needed";
  modeOfPart = "soname";

  checked =
    {
      mode ? null,
      except ? [ ],
    }:
    let
      wrong = lib.filter (entry: !(lib.isString entry || lib.isFunction entry)) except;
    in
    if mode != null && !lib.elem mode modes then
      complain "mode: '${toString mode}' is no mode; use ${lib.concatStringsSep " or " modes}"
    else
      {
        inherit mode;
        # not before it is used: an entry may refer to the package set
        except =
          if wrong == [ ] then
            except
          else
            complain "except: ${builtins.typeOf (lib.head wrong)} is neither the name of a package nor a predicate";
      };

  # What an entry of `except` means: a name stands for that attribute of the set, and for every package of the same pname,
  # so that an alias or another version of it stays, too.
  exceptIn =
    set: entry:
    let
      # a package may refuse to be evaluated: unfree, broken, insecure
      found = builtins.tryEval (if lib.isDerivation set.${entry} then nameOf set.${entry} else null);
      names = [ entry ] ++ lib.optional found.success found.value;
    in
    if !lib.isString entry then
      entry
    else if !set ? ${entry} then
      complain "except: this package set has no '${entry}'; use a predicate for what is not at its top"
    else if found.success && found.value == null then
      complain "except: '${entry}' is no package"
    else
      attrs: lib.elem attrs.pname names;

  askedFor = predicates: {
    name = "except";
    reason = "the user asks for it";
    matches = attrs: lib.any (predicate: predicate attrs) predicates;
  };

  # What is added to the attributes of a derivation. Only values depend on the attributes that are there; if names did, one
  # whose attributes refer to each other could not be evaluated.
  additions =
    {
      mode,
      rules,
      hook,
      stdenv ? { },
    }:
    attrs:
    let
      seen = attrs // {
        inherit stdenv;
        pname = nameOf attrs;
      };
      rule = lib.findFirst (rule: rule.matches seen) null rules;
      inputs = attrs.nativeBuildInputs or [ ];
    in
    {
      nativeBuildInputs =
        inputs ++ lib.optional (rule == null && !lib.any isHook (lib.flatten inputs)) (hook.override { inherit mode; });
      passthru = attrs.passthru or { } // {
        hardenNeeded =
          if rule == null then
            { mode = attrs.hardenNeededMode or attrs.env.hardenNeededMode or mode; }
          else
            {
              mode = null;
              reason = "${rule.name}: ${rule.reason}";
            };
      };
    };

  # overrideAttrs may put other inputs in the place of those that are there, the hook among them.
  keeping =
    add: package:
    package
    // {
      overrideAttrs = change: keeping add ((package.overrideAttrs change).overrideAttrs add);
    };

  # Other platforms pass through: what a configuration for several says is not wrong for each of them.
  onElf =
    platform: plain: hardened:
    if platform.isElf or true then
      hardened
    else
      lib.warn "nix-harden-needed: ${platform.config} has no ELF files; nothing is hardened for it" plain;

  stdenvWith =
    {
      stdenv,
      stdenvAdapters,
      mode,
      rules,
      hook,
      overrides ? (_: _: { }),
    }:
    # Stages of a cross compilation make their stdenv from that of the stage before.
    if stdenv ? hardenNeeded then
      stdenv
    else
      onElf stdenv.hostPlatform stdenv (stdenv.override (old: {
        mkDerivationFromStdenv =
          self:
          let
            # The default is nixpkgs' own secret, but its adapters give it away.
            ofOld =
              old.mkDerivationFromStdenv
                or (stdenvAdapters.addAttrsToDerivation { } { override = change: change old; }).mkDerivationFromStdenv;
            mkDerivation = ofOld self;
            add = additions {
              inherit mode rules hook;
              stdenv = self;
            };
          in
          attrsOrFunction:
          keeping add (
            mkDerivation (
              final:
              let
                attrs = lib.toFunction attrsOrFunction final;
              in
              attrs // add attrs
            )
          );
        extraAttrs = old.extraAttrs or { } // {
          hardenNeeded = { inherit mode; };
        };
        overrides = final: prev: (old.overrides or (_: _: { })) final prev // overrides final prev;
      }));

  # A derivation that is named one by one: an exception is a contradiction then.
  packageWith =
    {
      mode,
      before ? [ ],
      after,
      hook,
    }:
    package:
    let
      refused =
        rule:
        rule
        // {
          matches =
            attrs:
            rule.matches attrs && complain "${attrs.pname} is not hardened (${rule.name}): ${rule.reason}";
        };
      add = additions {
        inherit mode hook;
        rules = before ++ [ after ] ++ map refused exceptions;
      };
    in
    onElf (package.stdenv.hostPlatform or { }) package (keeping add (package.overrideAttrs add));

  # The set without hardening, in the set and by the name `unhardened`: the hook and all that it is made of come from there.
  # As nothing in it is hardened, it has the hashes that caches know. Where a program is built for another machine,
  # `extend` leads to the set of that machine whatever stage it is called in.
  isOff = final: final.dontHardenNeeded or false;
  withUnhardened = final: prev: {
    unhardened =
      let
        plain = final.extend (_: _: { dontHardenNeeded = true; });
      in
      if isOff final then
        final
      else if prev.stdenv.hostPlatform == prev.stdenv.buildPlatform then
        plain.buildPackages
      else
        plain;
  };
  hookIn = final: (import ./packages.nix final.unhardened.buildPackages).nixHardenNeeded;
  off = final: {
    name = "off";
    reason = "the package set sets dontHardenNeeded";
    matches = _: isOff final;
  };

  missingIn = set: lib.filter (name: !set ? ${name});
  lacks = function: missing: complain "${function}: this package set has no '${lib.head missing}'";

  # A finished package, its programs bound to all that they load; nothing else is built again.
  freezePrograms = package: programs: (hookFor package).freezePrograms programs package;
  freeze = package: freezePrograms package null;
  # A finished package, its programs with tables of the symbols that they need; nothing else is built again.
  prelink = package: (hookFor package).prelink package;
  split = package: (hookFor package).split package;
  auditWith = options: package: (hookFor package).audit options package;
  audit = auditWith { };

  # A package that cannot be evaluated, or is none, is counted, and what is in `except` is not there.
  auditSet =
    {
      set,
      except ? [ ],
      before ? null,
    }:
    let
      # as elsewhere, by name, which evaluates nothing, or by a predicate on what a package has
      isLeftOut = package: lib.any (entry: lib.isFunction entry && entry package) except;
      tried = lib.mapAttrs (
        _: package:
        builtins.tryEval (
          if lib.isDerivation package && !isLeftOut package then
            builtins.seq package.drvPath package
          else
            null
        )
      ) (removeAttrs set (lib.filter lib.isString except));
      audits = lib.mapAttrs (_: found: audit found.value) (
        lib.filterAttrs (_: found: found.success && found.value != null) tried
      );
      some = lib.findFirst (found: found.success && found.value != null) null (lib.attrValues tried);
    in
    if some == null then
      complain "auditSet: there is no package in this set that can be evaluated"
    else
      (hookFor some.value).auditSet {
        inherit audits before;
        unknown = lib.attrNames (lib.filterAttrs (_: found: !found.success) tried);
      };
  # An overlay, by the name of the function that makes it: finished packages, edited by what a hook brings for that.
  editing =
    function: edit: names: final: prev:
    let
      missing = missingIn prev names;
    in
    if missing != [ ] then
      lacks function missing
    else
      withUnhardened final prev
      // lib.genAttrs names (
        name: if isOff final then prev.${name} else edit (hookIn final) prev.${name}
      );
  freezePackages = editing "freezePackages" (hook: hook.freezePrograms null);
  prelinkPackages = editing "prelinkPackages" (hook: hook.prelink);

  withOptions =
    options:
    let
      valid = checked options;
      inherit (valid) except;
      modeOr = default: if valid.mode == null then default else valid.mode;
    in
    builtins.seq valid {
      # an overlay
      hardenEverything =
        final: prev:
        let
          hook = hookIn final;
          mode = modeOr modeOfSet;
        in
        withUnhardened final prev
        // lib.genAttrs (lib.filter (name: prev ? ${name}) fromUnhardened) (
          name: (if isOff final then prev else final.unhardened).${name}
        )
        // {
          inherit (import ./packages.nix final) nix-harden;
          nixHardenNeeded = hook.override { inherit mode; };
          stdenv = stdenvWith {
            inherit (prev) stdenv stdenvAdapters;
            inherit mode hook;
            rules = exceptions ++ [
              (off final)
              (askedFor (map (exceptIn final) except))
            ];
          };
        };

      hardenStdenv =
        pkgs:
        let
          hook = hookIn { unhardened = pkgs; };
          mode = modeOr modeOfSet;
        in
        stdenvWith {
          inherit (pkgs) stdenv stdenvAdapters;
          inherit mode hook;
          rules = exceptions ++ [ (askedFor (map (exceptIn pkgs) except)) ];
          overrides =
            _: prev:
            lib.genAttrs (lib.filter (name: prev ? ${name}) fromUnhardened) (name: pkgs.${name})
            // {
              unhardened = pkgs;
              nixHardenNeeded = hook.override { inherit mode; };
            };
        };

      hardenPackage =
        package:
        packageWith {
          mode = modeOr modeOfPart;
          hook = hookFor package;
          after = askedFor (
            map (entry: if lib.isString entry then attrs: attrs.pname == entry else entry) except
          );
        } package;

      # an overlay
      hardenPackages =
        names: final: prev:
        let
          missing = missingIn prev names;
          # nixpkgs gives overlays to the stages that build the stdenv, too, and its own packages come from there
          early = lib.hasPrefix "bootstrap-" (prev.stdenv.name or "");
          taken = lib.filter (name: (prev.stdenv.overrides or (_: _: { })) final prev ? ${name}) names;
          harden = packageWith {
            mode = modeOr modeOfPart;
            before = [ (off final) ];
            after = askedFor (map (exceptIn final) except);
            hook = hookIn final;
          };
        in
        if early then
          { }
        else if missing != [ ] then
          lacks "hardenPackages" missing
        else if taken != [ ] then
          complain "hardenPackages: '${lib.head taken}' comes with the stdenv, and cannot be another one"
        else
          withUnhardened final prev
          // lib.genAttrs names (
            name:
            if prev.${name} ? overrideAttrs then
              harden prev.${name}
            else
              complain "hardenPackages: '${name}' is no package"
          );
    };

  plainly = withOptions { };
in
{
  inherit
    exceptions
    modes
    modeOfSet
    withOptions
    ;
  inherit freeze freezePrograms freezePackages;
  inherit prelink prelinkPackages;
  inherit split;
  inherit audit auditWith auditSet;
  inherit (plainly) hardenStdenv hardenPackage hardenPackages;
  hardenEverything = options: (withOptions options).hardenEverything;
}
