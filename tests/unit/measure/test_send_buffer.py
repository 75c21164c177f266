"""The machine's setting is what it was, however a bench ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.measure import send_buffer


@pytest.fixture
def setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "wmem_default"
    path.write_text("212992\n")
    monkeypatch.setattr(send_buffer, "_SETTING", path)
    return path


def test_it_is_set_meanwhile(setting: Path) -> None:
    with send_buffer.send_buffer(2048) as held:
        assert held == int(setting.read_text()) == 2 << 20
    assert int(setting.read_text()) == 212992


def test_it_is_set_back_after_a_failure(setting: Path) -> None:
    with pytest.raises(KeyboardInterrupt), send_buffer.send_buffer(2048):
        raise KeyboardInterrupt
    assert int(setting.read_text()) == 212992


def test_it_may_be_left_alone(setting: Path) -> None:
    setting.chmod(0o400)
    before = setting.stat().st_mtime_ns
    with send_buffer.send_buffer(0) as held:
        assert held == 212992
    assert setting.stat().st_mtime_ns == before
