{
  lib,
  stdenv,
  runCommand,
}:
rec {
  # The derivation that succeeds if and only if the given one fails. Its default
  # output holds testBuildFailure.log and testBuildFailure.exit; a file that the
  # build left in its place is `result` in it.
  testBuildFailure =
    drv:
    drv.overrideAttrs (old: {
      realBuilder = stdenv.shell;
      args = [
        ./expect-failure.sh
        (old.realBuilder or stdenv.shell)
      ]
      ++ old.args or [
        "-e"
        ./builder.sh
        (old.builder or ./default-builder.sh)
      ];
      coreutilsForTester = "${lib.head stdenv.initialPath}";
    });

  # The exit status, and words that the log must contain.
  testBuildFailure' =
    {
      drv,
      name ? "${drv.name}-fails",
      expectedBuilderExitCode ? 1,
      expectedBuilderLogEntries ? [ ],
      script ? "",
    }:
    let
      failed = testBuildFailure drv;
    in
    runCommand name { inherit failed; } ''
      if [ "$(cat "$failed/testBuildFailure.exit")" != ${toString expectedBuilderExitCode} ]; then
        echo "exit status $(cat "$failed/testBuildFailure.exit"), not ${toString expectedBuilderExitCode}" >&2
        exit 1
      fi
      ${lib.concatMapStrings (entry: ''
        if ! grep -qF -- ${lib.escapeShellArg entry} "$failed/testBuildFailure.log"; then
          echo ${lib.escapeShellArg "the log lacks: ${entry}"} >&2
          exit 1
        fi
      '') expectedBuilderLogEntries}
      ${script}
      touch "$out"
    '';

  testEqualContents =
    {
      assertion,
      actual,
      expected,
    }:
    runCommand "equal-contents" { inherit actual assertion expected; } ''
      echo "Checking: $assertion"
      diff -U5 -r "$expected" "$actual" --color=never
      touch "$out"
    '';
}
