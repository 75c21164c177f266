"""The library gets the server, the region and the credentials that were meant, in the right order."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from freezeframe.repository.errors import RepositoryUnsupported
from freezeframe.repository.store import s3_client
from freezeframe.repository.store.patience import LONGEST_PAUSE_S
from freezeframe.repository.store.s3_client import S3Access, S3Address
from freezeframe.settings import S3Settings, SettingsError

from .s3 import KEY, SECRET

AWS = ("ENDPOINT_URL_S3", "ENDPOINT_URL", "REGION", "DEFAULT_REGION", "ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "PROFILE")
OURS = {"s3_access_key_id": KEY, "s3_secret_access_key": SECRET}


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*(f"AWS_{one}" for one in AWS), *s3_client._FOUND_BY_OBSTORE):
        monkeypatch.delenv(name, raising=False)
    for name in S3Settings.model_fields:
        monkeypatch.delenv(f"FREEZEFRAME_{name.upper()}", raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


class Told:
    """In the place of the library's bucket: what it was made with."""

    def __init__(self, bucket: str, **wishes: Any) -> None:
        self.bucket, self.wishes = bucket, wishes


def told(monkeypatch: pytest.MonkeyPatch, address: str = "s3://bucket/a", **values: object) -> Told:
    monkeypatch.setattr(s3_client, "Bucket", Told)
    made = S3Access(S3Address.parse(address), S3Settings.model_validate(values)).connect()
    assert isinstance(made, Told)
    return made


@pytest.mark.parametrize(
    ("ours", "environment", "endpoint"),
    [
        (None, {}, None),
        ("https://ours/", {"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_ENDPOINT_URL": "http://any"}, "https://ours"),
        (None, {"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_ENDPOINT_URL": "http://any"}, "http://s3"),
        (None, {"AWS_ENDPOINT_URL": "http://any"}, "http://any"),
    ],
)
def test_the_server_is_ours_then_amazons_for_s3_then_amazons_for_all(
    monkeypatch: pytest.MonkeyPatch, ours: str | None, environment: dict[str, str], endpoint: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    bucket = told(monkeypatch, s3_endpoint=ours, **OURS)
    assert bucket.wishes["config"].get("endpoint") == endpoint
    assert bucket.wishes["client_options"]["allow_http"] == bool(endpoint and endpoint.startswith("http:"))


@pytest.mark.parametrize(
    ("ours", "environment", "region"),
    [
        ("ours", {"AWS_REGION": "one", "AWS_DEFAULT_REGION": "two"}, "ours"),
        (None, {"AWS_REGION": "one", "AWS_DEFAULT_REGION": "two"}, "one"),
        (None, {"AWS_DEFAULT_REGION": "two"}, "two"),
        (None, {}, "us-east-1"),
    ],
)
def test_the_region_is_ours_then_amazons(
    monkeypatch: pytest.MonkeyPatch, ours: str | None, environment: dict[str, str], region: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert told(monkeypatch, s3_region=ours, **OURS).wishes["config"]["region"] == region


def test_the_library_creates_with_a_condition_and_tries_nothing_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the condition two could seal the same; by a try of its own a create that succeeded would be told as refused."""
    bucket = told(monkeypatch, s3_timeout_s=2.5, **OURS)
    assert (bucket.bucket, bucket.wishes["prefix"]) == ("bucket", "a")
    assert bucket.wishes["config"]["conditional_put"] == "etag"
    assert bucket.wishes["retry_config"] == {"max_retries": 0}
    assert "credential_provider" in bucket.wishes
    assert bucket.wishes["client_options"]["timeout"] == "2500ms"
    assert told(monkeypatch, "s3://bucket", **OURS).wishes["prefix"] is None


def test_a_bucket_with_patience_tries_each_request_for_that_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """For uploads in parts, which the library makes as a whole."""
    monkeypatch.setattr(s3_client, "Bucket", Told)
    made = S3Access(S3Address.parse("s3://bucket/a"), S3Settings.model_validate(OURS)).connect(patience_s=900.0)
    assert isinstance(made, Told)
    tries = made.wishes["retry_config"]
    assert tries["retry_timeout"] == timedelta(minutes=15)
    assert tries["max_retries"] > 900 / LONGEST_PAUSE_S * 100
    assert tries["backoff"]["max_backoff"] == timedelta(seconds=LONGEST_PAUSE_S)


@pytest.mark.parametrize("token", [None, "a-token"])
def test_credentials_are_given_when_they_are_asked_for(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    given = told(monkeypatch, s3_session_token=token, **OURS).wishes["credential_provider"]()
    assert (given["access_key_id"], given["secret_access_key"], given["token"]) == (KEY, SECRET, token)


@pytest.mark.parametrize("half", list(OURS))
def test_half_of_the_credentials_is_none(monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    with pytest.raises(SettingsError, match="only one is set"):
        told(monkeypatch, **{half: OURS[half]})


@pytest.mark.parametrize("name", s3_client._FOUND_BY_OBSTORE)
def test_what_the_library_finds_itself_is_left_to_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "something")
    assert told(monkeypatch, s3_endpoint="http://ours").wishes["credential_provider"] is None


def test_amazon_is_asked_for_credentials_but_no_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert told(monkeypatch).wishes["credential_provider"] is None
    with pytest.raises(SettingsError, match="no credentials for object storage"):
        told(monkeypatch, s3_endpoint="http://ours")


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ("aws_access_key_id = k\naws_secret_access_key = s", True),
        ("aws_access_key_id = k", False),
        ("aws_secret_access_key = s", False),
        ("aws_access_key_id =\naws_secret_access_key = s", False),
    ],
)
def test_a_profile_has_both_keys_or_none(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lines: str,
    found: bool,  # noqa: FBT001
) -> None:
    (tmp_path / "credentials").write_text(f"[default]\n{lines}\n")
    provider = told(monkeypatch).wishes["credential_provider"]
    assert (provider is not None) == found
    if found:
        assert provider()["access_key_id"] == "k"


@pytest.mark.parametrize(
    "address", [f"s3://{KEY}:{SECRET}@bucket/a", f"s3://bucket/a?secret={SECRET}", f"s3://bucket/a#{SECRET}"]
)
def test_an_address_that_may_hold_a_secret_is_refused_without_a_word_of_it(address: str) -> None:
    with pytest.raises(RepositoryUnsupported, match="a bucket and a prefix, and nothing else") as caught:
        S3Address.parse(address)
    assert SECRET not in f"{caught.value} {caught.value.hint}"
