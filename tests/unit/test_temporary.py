"""The directory for temporary files: the setting first, and /tmp, which is memory on Debian 13, last."""

from __future__ import annotations

import ast
import os
import tempfile
from pathlib import Path

import pytest

from freezeframe import temporary
from freezeframe.settings import SettingsError
from freezeframe.temporary import temporary_directory

pytestmark = pytest.mark.case("D2")

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is set, and Python's own choice is a place that nobody should come to."""
    for name in ("FREEZEFRAME_TMP_DIR", "TMPDIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FREEZEFRAME_CONFIG", os.devnull)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tempfile"))
    temporary._directory.cache_clear()


def test_where_nothing_is_set_it_is_var_tmp_and_not_tmp() -> None:
    assert temporary_directory() == Path("/var/tmp")  # noqa: S108


@pytest.mark.parametrize("there", [True, False])
def test_where_var_tmp_cannot_be_written_it_is_tempfiles_choice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    there: bool,  # noqa: FBT001
) -> None:
    """As in a container whose root is read-only. Root may write wherever it is asked, so access itself is played."""
    place = tmp_path / "lasting"
    if there:
        place.mkdir()
        monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != place)
    monkeypatch.setattr(temporary, "LASTING", place)
    assert temporary_directory() == tmp_path / "tempfile"


def test_tmpdir_is_followed_if_it_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert temporary_directory() == tmp_path
    monkeypatch.setenv("TMPDIR", "somewhere")
    assert temporary_directory() == Path.cwd() / "somewhere"
    monkeypatch.setenv("TMPDIR", "")
    assert temporary_directory() == Path("/var/tmp")  # noqa: S108


def test_the_setting_comes_before_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "other"))
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", str(tmp_path))
    assert temporary_directory() == tmp_path


def test_it_may_stand_in_the_settings_file_which_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "freezeframe.toml"
    file.write_text(f'tmp_dir = "{tmp_path}"')
    monkeypatch.setenv("FREEZEFRAME_CONFIG", str(file))
    assert temporary_directory() == tmp_path
    file.write_text("half of it is writ")  # by an editor, while a transfer goes on
    assert temporary_directory() == tmp_path


def test_a_relative_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEZEFRAME_TMP_DIR", "tables")
    with pytest.raises(SettingsError, match=r"The setting tmp_dir cannot be used: 'tables' is no absolute path"):
        temporary_directory()


#: Who uses Python's tempfile, and why that may be.
USERS = {
    "freezeframe/temporary.py": "decides",
    "freezeframe/repository/temporary.py": "makes the files, where that decides",
    "workers/restore/rehearsal.py": "in the directory that is given, or that decides",
    "workers/exchange/image_server.py": "a socket, whose path must be short",
    "freezeframe/supervise.py": "a socket",
}


def test_nobody_else_chooses_a_place_for_temporary_files() -> None:
    found = set()
    for part in ("freezeframe", "workers", "orchestrator"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
                if "tempfile" in names or (isinstance(node, ast.ImportFrom) and node.module == "tempfile"):
                    found.add(str(path.relative_to(ROOT)))
    assert found == set(USERS)
