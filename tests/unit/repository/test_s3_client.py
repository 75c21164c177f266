"""From settings to a bucket: addresses, and where credentials come from and do not show."""

from __future__ import annotations

import re
import sys
from io import BytesIO
from pathlib import Path

import pytest

from freezeframe.repository.errors import RepositoryNotReadable, RepositoryUnsupported
from freezeframe.repository.layout import index_name
from freezeframe.repository.store import s3_parts
from freezeframe.repository.store.address import open_store
from freezeframe.repository.store.patience import Patience
from freezeframe.repository.store.s3_client import S3Access, S3Address
from freezeframe.settings import S3Settings, SettingsError

from .s3 import KEY, SECRET, Answering, Asked, Reply, settings
from .s3_bucket import FakeBucket

#: Credentials of ours, which come before those of Amazon's file.
OURS = ("FREEZEFRAME_S3_ACCESS_KEY_ID", "FREEZEFRAME_S3_SECRET_ACCESS_KEY")

ADDRESS = S3Address("bucket", "a/b")


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_PROFILE",
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_S3",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def s3_settings(**values: object) -> S3Settings:
    return S3Settings.model_validate({"s3_endpoint": "http://127.0.0.1:9", **values})


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("s3://bucket/a/b", ADDRESS),
        ("s3://bucket/a/b/", ADDRESS),
        ("s3://bucket", S3Address("bucket", "")),
        ("s3://my.bucket-1/", S3Address("my.bucket-1", "")),
    ],
)
def test_an_address_is_a_bucket_and_a_prefix(text: str, address: S3Address) -> None:
    assert S3Address.parse(text) == address
    assert S3Address.parse(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["s3://", "s3:///a", "s3://B/a", "s3://bucket/../a", "s3://bucket/a//b", "s3://bucket/a b", "s3://bucket/.a"],
)
def test_what_is_no_address_is_refused_by_name(text: str) -> None:
    with pytest.raises(RepositoryUnsupported, match=r"s3://"):
        open_store(text)


@pytest.mark.parametrize("text", [f"s3://{KEY}:{SECRET}@bucket/a", f"s3://bucket/a?secret={SECRET}"])
def test_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(RepositoryUnsupported) as error:
        open_store(text)
    assert SECRET not in f"{error.value!r} {error.value.hint}"


def test_credentials_show_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in settings("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    bucket = S3Access(ADDRESS, S3Settings()).connect()
    assert SECRET not in f"{bucket!r} {bucket.config} {S3Settings()!r} {open_store('s3://bucket/a')!r}"


def test_half_of_the_credentials_is_refused() -> None:
    with pytest.raises(SettingsError, match="only one"):
        S3Access(ADDRESS, s3_settings(s3_access_key_id=KEY))


def test_a_server_of_ones_own_needs_credentials() -> None:
    """Else the library would look for a machine's role at an address that only Amazon answers at."""
    with pytest.raises(SettingsError, match="no credentials"):
        S3Access(ADDRESS, s3_settings())


def test_amazons_names_in_the_environment_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert S3Access(ADDRESS, s3_settings()).connect().credential_provider is None


def test_the_profiles_credentials_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "credentials").write_text(
        f"[default]\nregion = x\n[backup]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n"
    )
    with pytest.raises(SettingsError, match="no credentials"):
        S3Access(ADDRESS, s3_settings())
    monkeypatch.setenv("AWS_PROFILE", "backup")
    bucket = S3Access(ADDRESS, s3_settings()).connect()
    assert bucket.credential_provider is not None
    assert SECRET not in f"{bucket!r} {bucket.config}"


def test_a_credentials_file_that_cannot_be_read_is_not_quoted(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text(f"{SECRET}\n")
    with pytest.raises(SettingsError, match="cannot be read") as error:
        S3Access(ADDRESS, s3_settings())
    assert error.value.__suppress_context__
    assert SECRET not in str(error.value)


def test_an_endpoint_is_a_url() -> None:
    wrong = s3_settings(s3_endpoint="s3.example.org", s3_access_key_id=KEY, s3_secret_access_key=SECRET)
    with pytest.raises(SettingsError, match="s3_endpoint"):
        S3Access(ADDRESS, wrong)


def test_without_the_library_the_address_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    for name in ("s3", "s3_client", "s3_fault"):
        monkeypatch.delitem(sys.modules, f"freezeframe.repository.store.{name}", raising=False)
    with pytest.raises(RepositoryUnsupported, match="obstore is not installed") as error:
        open_store("s3://bucket/a")
    assert "freezeframe[s3]" in error.value.hint


def lines(key: str) -> str:
    return f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {SECRET}\naws_session_token = t-{key}\n"


def test_credentials_that_are_renewed_in_the_file_are_taken(
    tmp_path: Path, answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused request is sent again, with what is in the file by then; one that is half written changes nothing."""
    for name in OURS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text(lines("FIRST"))
    valid = "FIRST"

    def answer(asked: Asked) -> Reply:
        return Reply(200, "bytes") if asked.key == valid else Reply.error(400, "ExpiredToken")

    answering_server.answer = answer
    renewals = [lines("SECOND")[:40], "no credentials at all", lines("SECOND")]

    def renew(_: float) -> None:
        file.write_text(renewals.pop(0))

    store = open_store("s3://bucket/a", patience=Patience(30, sleep=renew))
    assert store.get("config") == b"bytes"
    valid = "SECOND"
    assert store.get("config") == b"bytes"
    assert [one.key for one in answering_server.asked] == ["FIRST"] * 4 + ["SECOND"]


def test_credentials_that_are_over_and_not_renewed_are_told(
    tmp_path: Path, answering_server: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OURS:
        monkeypatch.delenv(name)
    (tmp_path / "credentials").write_text(lines("FIRST"))
    answering_server.answer = lambda _: Reply.error(400, "ExpiredToken")
    with pytest.raises(RepositoryNotReadable, match="the server said 400 ExpiredToken") as caught:
        open_store("s3://bucket/a").get("config")
    assert "shared credentials file" in caught.value.hint
    assert "t-FIRST" not in f"{caught.value!r} {caught.value.hint}"


#: A file of credentials that somebody is just writing anew; None: it is away.
MEANWHILE = [lines("SECOND")[:40], "no credentials at all", "", None]


def write(file: Path, text: str | None) -> None:
    if text is None:
        file.unlink()
    else:
        file.write_text(text)


@pytest.fixture
def renewed(tmp_path: Path, answering_server: Answering, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of credentials, which are taken from there."""
    assert answering_server.endpoint
    for name in OURS:
        monkeypatch.delenv(name)
    file = tmp_path / "credentials"
    file.write_text(lines("FIRST"))
    return file


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_listing_outlasts_a_file_that_is_just_being_written(
    renewed: Path, bucket: FakeBucket, answering_server: Answering, meanwhile: str | None
) -> None:
    bucket.page, names = 10, [f"tmp/{number:032x}" for number in range(40)]
    bucket.objects = {f"a/{name}": b"" for name in names}
    found = open_store("s3://bucket/a").names("tmp")
    assert [next(found) for _ in range(10)] == names[:10]
    write(renewed, meanwhile)
    assert [next(found) for _ in range(10)] == names[10:20]
    write(renewed, lines("SECOND"))
    assert list(found) == names[20:]
    signed = [
        re.findall(r"(?:X-Amz-Credential|X-Amz-Security-Token)=([\w-]+)", one.path) for one in answering_server.asked
    ]
    assert signed == [["FIRST", "t-FIRST"]] * 2 + [["SECOND", "t-SECOND"]] * 2


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_an_upload_outlasts_a_file_that_is_just_being_written(
    renewed: Path, bucket: FakeBucket, monkeypatch: pytest.MonkeyPatch, meanwhile: str | None
) -> None:
    monkeypatch.setattr(s3_parts, "PART_BYTES", 5 << 20)
    store = open_store("s3://bucket/a")
    write(renewed, meanwhile)
    store.put(index_name(bytes(32)), BytesIO(bytes(6 << 20)))
    assert [len(one) for one in bucket.objects.values()] == [6 << 20]
