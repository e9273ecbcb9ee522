"""The tables of rules: each has a name and a sentence, and the names that they know are those of the facts."""

from typing import Any

import pytest

from nix_harden.fixup.policy import FILE_RULES, NEEDED_RULES, NO_ROOM, SONAME_RULES, UNMOVABLE_RULES, Rule
from nix_harden.names import DRIVERS, LIBC, LOADERS, RUNTIMES
from nix_harden.settings import matches

ALL: list[Rule[Any]] = [*FILE_RULES, *UNMOVABLE_RULES, NO_ROOM, *SONAME_RULES, *NEEDED_RULES]


@pytest.mark.parametrize("rules", [FILE_RULES, UNMOVABLE_RULES, (NO_ROOM,), SONAME_RULES, NEEDED_RULES])
def test_every_rule_of_a_table_has_a_name_of_its_own_and_a_sentence(rules: tuple[Rule[Any], ...]) -> None:
    names = [rule.name for rule in rules]
    assert len(names) == len(set(names))
    assert all(rule.sentence.strip() and not rule.sentence.endswith(".") for rule in rules)


def test_findings_are_those_that_help_can_settle() -> None:
    assert {rule.name for rule in ALL if rule.finding} == {
        "two different files",
        "not found",
        "would close a cycle of outputs",
    }


@pytest.mark.parametrize(
    "name",
    "libc.so.6 libpthread.so.0 libm.so.6 libdl.so.2 librt.so.1 libutil.so.1 libresolv.so.2 libanl.so.1 libmvec.so.1 "
    "libc_malloc_debug.so.0 libthread_db.so.1 libnss_dns.so.2 libnsl.so.1 libBrokenLocale.so.1 libmemusage.so libpcprofile.so".split(),
)
def test_glibcs_own(name: str) -> None:
    assert matches(LIBC, name)


@pytest.mark.parametrize(
    "name", "libcap.so.2 libmagic.so.1 libdlfoo.so.1 libnsl.so.3 libcrypt.so.2 libc++.so.1 libmvecx.so".split()
)
def test_not_glibcs_own(name: str) -> None:
    assert not matches(LIBC, name)


@pytest.mark.parametrize(
    "name",
    "ld-linux-x86-64.so.2 ld-linux.so.2 ld-linux-aarch64.so.1 ld-linux-armhf.so.3 ld-linux-riscv64-lp64d.so.1 ld64.so.1 "
    "ld64.so.2 ld.so.1 ld-musl-x86_64.so.1 libc.musl-x86_64.so.1".split(),
)
def test_loaders(name: str) -> None:
    assert matches(LOADERS, name)


@pytest.mark.parametrize(
    "name",
    "libgcc_s.so.1 libstdc++.so.6 libgomp.so.1 libatomic.so.1 libquadmath.so.0 libgfortran.so.5 libitm.so.1 libasan.so.8 "
    "libubsan.so.1 libtsan.so.2 liblsan.so.0 libhwasan.so.0".split(),
)
def test_compiler_runtimes(name: str) -> None:
    assert matches(RUNTIMES, name)


@pytest.mark.parametrize("name", "libgomp-plugin-nvptx.so.1 libstdc++fs.so libatomic_ops.so.1".split())
def test_no_compiler_runtimes(name: str) -> None:
    assert not matches(RUNTIMES, name)


@pytest.mark.parametrize(
    "name", "libGLU.so.1 libGLEW.so.2 libcudart.so.12 libcublas.so.12 libdrm.so.2 libgbm.so.1 libvulkan.so.1".split()
)
def test_libraries_that_only_use_the_driver_are_no_drivers(name: str) -> None:
    assert not matches(DRIVERS, name)
