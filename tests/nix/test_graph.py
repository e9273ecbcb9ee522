"""`nix-harden graph --store-paths` has the references that Nix itself has registered."""

import json
import subprocess
import sys

from nix.conftest import ROOT, Nix

# Text, a link, a text that names its own path, a file of many hashes; `unused` is a dependency of the build that is not referred to.
EXPRESSION = """
  let
    make = name: script: derivation {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-c" script ];
      PATH = "/bin:/usr/bin";
    };
    leaf = make "leaf" "echo leaf > $out";
    unused = make "unused" "echo unused > $out";
    text = make "text" "mkdir -p $out/share; echo ${leaf} > $out/share/text; echo $out > $out/share/self";
    link = make "link" "mkdir $out; ln -s ${text}/share $out/there; cat ${unused} > $out/copy";
  in make "top" "mkdir $out; head -c 100000 /dev/zero > $out/data; echo x${link}/there:${leaf} >> $out/data"
"""


def test_references_are_those_that_nix_registered(nix: Nix) -> None:
    (top,) = nix("nix-build", "--no-out-link", "-E", EXPRESSION).split()
    done = subprocess.run(
        [sys.executable, "-m", "nix_harden", "graph", "--json", "--store-paths", top],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    value = json.loads(done.stdout)
    paths = {node["id"]: node["path"] for node in value["nodes"]}
    closure = set(nix("nix-store", "--query", "--requisites", top).split())
    assert set(paths.values()) == closure
    assert len(closure) == 4
    for path in closure:
        registered = set(nix("nix-store", "--query", "--references", path).split()) - {path}
        mine = {paths[edge["target"]] for edge in value["edges"] if paths[edge["source"]] == path}
        assert mine == registered
