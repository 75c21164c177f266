"""An import that fails for a package that is optional names that package, and a command that installs it."""

from __future__ import annotations

import shlex
import sys

import pytest
import typer

from freezeframe.cli.failure import shown
from freezeframe.missing import need_extra, package_missing, remedy


@pytest.mark.case("G10")
@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("libvirt", "host"),
        ("libvirtmod_qemu", "host"),
        ("lxml.etree", "host"),
        ("obstore.store", "s3"),
        ("prometheus_client", "control"),
        ("flower.command", "control"),
    ],
)
def test_a_module_of_an_extra_names_the_extra(module: str, extra: str) -> None:
    advice = remedy(ModuleNotFoundError(f"No module named {module!r}", name=module))
    assert advice is not None
    assert advice.endswith(f"{sys.executable} -m pip install 'freezeframe[{extra}]'")


@pytest.mark.case("G10")
@pytest.mark.parametrize("name", ["nbd", "libnbdmod"])
def test_a_module_of_the_distribution_names_the_debian_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModuleNotFoundError(f"No module named {name!r}", name=name)
    monkeypatch.setattr(sys, "prefix", "/opt/our own")
    inside = remedy(error) or ""
    assert "the Debian package python3-libnbd" in inside.replace("The", "the")
    assert inside.endswith("/usr/bin/python3 -m venv --system-site-packages '/opt/our own'")
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert (remedy(error) or "").endswith("apt install python3-libnbd")


@pytest.mark.case("G10")
@pytest.mark.parametrize(
    ("library", "package"),
    [("libvirt.so.0", "libvirt0"), ("libvirt-qemu.so.0", "libvirt0"), ("libnbd.so.0", "libnbd0")],
)
def test_a_shared_library_names_the_debian_package(library: str, package: str) -> None:
    error = ImportError(f"{library}: cannot open shared object file: No such file or directory", name="libvirtmod")
    assert (remedy(error) or "").endswith(f"apt install {package}")


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError("No module named 'packaging'", name="packaging"),
        ModuleNotFoundError("No module named 'freezeframe.gone'", name="freezeframe.gone"),
        ImportError("cannot import name 'x' from 'y'"),
        ImportError("libother.so.1: cannot open shared object file: No such file or directory", name="libvirtmod"),
    ],
)
def test_any_other_import_is_a_defect(error: ImportError) -> None:
    assert remedy(error) is None
    assert package_missing(error) is None


def test_a_verb_that_imports_late_tells_the_package_and_no_defect(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended, shown(as_json=False):
        raise ModuleNotFoundError("No module named 'libvirt'", name="libvirt")
    assert ended.value.exit_code == 1
    told = capsys.readouterr().err
    assert "error: A package is missing on this machine: No module named 'libvirt'." in told
    assert "defect" not in told
    assert "'freezeframe[host]'" in told


def test_a_defect_stays_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), shown(as_json=False):
        raise ModuleNotFoundError("No module named 'packaging'", name="packaging")
    assert "This is a defect" in capsys.readouterr().err


def test_advice_is_for_the_python_that_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/opt/our own/bin/python")
    assert shlex.split(need_extra("s3").partition(": ")[2]) == [
        "/opt/our own/bin/python",
        *("-m", "pip", "install", "freezeframe[s3]"),
    ]
