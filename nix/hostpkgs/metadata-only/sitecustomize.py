"""A build system for pip that builds nothing.

Before `pip download` hands out a source distribution, it imports the build
system that the distribution names, which would have to be installed, and asks
it for metadata. Python imports this file at start-up where it lies in
PYTHONPATH: every name of a build system then leads here. No code of the
distribution is run: a source distribution has its metadata in PKG-INFO.
"""

import email
import os
import shutil
import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec

# where pip's child process finds the name, in new and in old versions
BACKEND = os.environ.get("_PYPROJECT_HOOKS_BUILD_BACKEND") or os.environ.get("PEP517_BUILD_BACKEND") or ""


def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    with open("PKG-INFO", encoding="utf-8") as file:
        info = email.message_from_file(file)
    directory = f"{info['Name'].replace('-', '_')}-{info['Version']}.dist-info"
    os.mkdir(os.path.join(metadata_directory, directory))
    shutil.copyfile("PKG-INFO", os.path.join(metadata_directory, directory, "METADATA"))
    return directory


class Backend(MetaPathFinder, Loader):
    def find_spec(self, fullname, path=None, target=None):
        package = BACKEND.partition(":")[0].partition(".")[0]
        if package and fullname.partition(".")[0] == package:
            return ModuleSpec(fullname, self, is_package=True)
        return None

    def exec_module(self, module):
        module.prepare_metadata_for_build_wheel = prepare_metadata_for_build_wheel
        # "package.module:object"
        _, _, attribute = BACKEND.partition(":")
        if attribute:
            setattr(module, attribute.partition(".")[0], module)


if BACKEND:
    sys.meta_path.insert(0, Backend())
