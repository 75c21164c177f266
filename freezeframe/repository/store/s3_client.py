"""The way to object storage: address, settings, credentials."""

from __future__ import annotations

import configparser
import os
import re
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store as Bucket

from freezeframe.repository.errors import RepositoryUnsupported
from freezeframe.repository.store.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S
from freezeframe.repository.store.s3_http import CONNECT_TIMEOUT_S, Sender
from freezeframe.repository.store.s3_listing import Listings
from freezeframe.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obstore.store import RetryConfig, S3Config, S3Credential
    from pydantic import SecretStr

    from freezeframe.settings import S3Settings

#: Names that every server takes, and that need no quoting in a URL.
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")

#: Tries of one request that the library makes where time is what ends them.
_TRIES_MOST: Final = 1_000_000

#: Seconds for which a signed URL is valid, by the server's clock from a time by ours. Servers take signed headers from a clock
#: that is wrong by up to 15 minutes, so listings must not need a better one. [Amazon S3 API reference, RequestTimeTooSkewed]
_SIGNED_S: Final = 20 * 60

_TRUE: Final = frozenset({"1", "true", "on", "yes", "y"})  # as the library takes them

#: What the library finds in the environment by itself, and then needs nothing of ours.
_FOUND_BY_OBSTORE: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True)
class S3Address:
    """`s3://bucket/prefix`. The prefix may be empty."""

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, address: str) -> S3Address:
        """Raises RepositoryUnsupported, which repeats nothing of an address that may hold a password."""
        parts = urlsplit(address)
        if "@" in address or parts.query or parts.fragment:
            raise RepositoryUnsupported(
                "An address in object storage is a bucket and a prefix, and nothing else.",
                advice="Give s3://bucket/prefix; credentials belong into the settings (docs/repository.md).",
            )
        bucket, prefix = parts.netloc, parts.path.strip("/")
        if not _BUCKET.fullmatch(bucket) or not (_PREFIX.fullmatch(prefix) or not prefix):
            raise RepositoryUnsupported(
                f"{address} is no address in object storage.",
                advice="Give s3://bucket/prefix: letters, digits, '-', '_' and '.' in both.",
            )
        return cls(bucket, prefix)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


class S3Access:
    """The way to what is at an address: by the settings, and with credentials that all requests share."""

    def __init__(self, address: S3Address, settings: S3Settings) -> None:
        """Ask nothing of the server yet. Raises SettingsError."""
        self._address = address
        self._settings = settings
        self._endpoint = _endpoint(settings)
        self._credentials = _credentials(settings, own_server=self._endpoint is not None)

    def connect(self, patience_s: float | None = None) -> Bucket:
        """Return the bucket, seen from the prefix. Nothing is asked of the server yet.

        `patience_s`: for how long it tries each request again by itself. None: never, as it must be for what creates. The
        library's own tries would report a create that succeeded as one that was refused.
        """
        reached: S3Config = {"endpoint": self._endpoint} if self._endpoint else {}
        return self._opened(self._address, reached, _tries(patience_s))

    def listings(self) -> Listings:
        """Return listings of what is at the address. Nothing is asked of the server yet. Raises SettingsError."""
        sender = Sender(self._bucket_url(), self._settings.s3_timeout_s)
        return Listings(self._signed_listing, sender, self._address.prefix)

    def _signed_listing(self, query: Mapping[str, str]) -> str:
        """Return the URL of a request for a listing, with a delimiter, signed for 20 minutes. Whoever has it may send it.

        The library signs requests for objects only, so this is one for the object "" of a bucket whose own URL ends in
        `?…&delimiter=`; the slash between the two is the delimiter.
        """
        url = f"{self._bucket_url()}?{urlencode(query, quote_via=quote)}&delimiter="
        config: S3Config = {"endpoint": url, "virtual_hosted_style_request": True}
        bucket = self._opened(S3Address(self._address.bucket, ""), config, _tries(None))
        return obstore.sign(bucket, "GET", "", timedelta(seconds=_SIGNED_S))

    def _opened(self, address: S3Address, reached: S3Config, tries: RetryConfig) -> Bucket:
        try:
            return Bucket(
                address.bucket,
                prefix=address.prefix or None,
                config={
                    "region": _region(self._settings),
                    "disable_bulk_delete": True,  # not every server has the bulk call
                    "conditional_put": "etag",  # If-None-Match, whatever AWS_CONDITIONAL_PUT says
                    **reached,
                },
                client_options={
                    "allow_http": bool(self._endpoint and self._endpoint.startswith("http://")),
                    "connect_timeout": f"{CONNECT_TIMEOUT_S}s",
                    "timeout": f"{round(self._settings.s3_timeout_s * 1000)}ms",
                },
                retry_config=tries,
                credential_provider=self._credentials,
            )
        except BaseError as error:
            if "CA certificates" not in str(error):
                raise
            raise SettingsError(
                "Object storage cannot be opened: this machine has no certificates of authorities.",
                advice="Install them (Debian: ca-certificates), or name a file of them in SSL_CERT_FILE.",
            ) from None

    def _bucket_url(self) -> str:
        """Return the URL of the bucket itself, as the library makes it."""
        region = _region(self._settings)
        if (_environment("AWS_VIRTUAL_HOSTED_STYLE_REQUEST") or "").lower() in _TRUE:
            return self._endpoint or f"https://{self._address.bucket}.s3.{region}.amazonaws.com"
        return f"{self._endpoint or f'https://s3.{region}.amazonaws.com'}/{self._address.bucket}"


def _endpoint(settings: S3Settings) -> str | None:
    endpoint = settings.s3_endpoint or _environment("AWS_ENDPOINT_URL_S3") or _environment("AWS_ENDPOINT_URL")
    if endpoint and urlsplit(endpoint).scheme not in {"http", "https"}:
        raise SettingsError("The setting s3_endpoint cannot be used: it must begin with http:// or https://.")
    return endpoint.rstrip("/") if endpoint else None


def _region(settings: S3Settings) -> str:
    return settings.s3_region or _environment("AWS_REGION") or _environment("AWS_DEFAULT_REGION") or "us-east-1"


def _tries(patience_s: float | None) -> RetryConfig:
    if patience_s is None:
        return {"max_retries": 0}
    first, longest = timedelta(seconds=FIRST_PAUSE_S), timedelta(seconds=LONGEST_PAUSE_S)
    return {
        "max_retries": _TRIES_MOST,
        "retry_timeout": timedelta(seconds=patience_s),
        "backoff": {"init_backoff": first, "max_backoff": longest, "base": 2},
    }


def _credentials(settings: S3Settings, *, own_server: bool) -> Callable[[], S3Credential] | None:
    """Where the library gets credentials; None where it finds them itself. Never in its configuration, which it shows."""
    if settings.s3_access_key_id is not None or settings.s3_secret_access_key is not None:
        if settings.s3_access_key_id is None or settings.s3_secret_access_key is None:
            raise SettingsError("Of s3_access_key_id and s3_secret_access_key only one is set.")
        return _fixed(settings.s3_access_key_id, settings.s3_secret_access_key, settings.s3_session_token)
    if any(_environment(name) for name in _FOUND_BY_OBSTORE):
        return None
    shared = _SharedCredentials()
    if shared.found:
        return shared
    if own_server:  # else the library would ask Amazon's address for machines, and wait for it
        raise SettingsError(
            "There are no credentials for object storage.",
            advice="Set FREEZEFRAME_S3_ACCESS_KEY_ID and FREEZEFRAME_S3_SECRET_ACCESS_KEY, or Amazon's names for them.",
        )
    return None


def _fixed(key: SecretStr, secret: SecretStr, token: SecretStr | None) -> Callable[[], S3Credential]:
    def credentials() -> S3Credential:
        return {
            "access_key_id": key.get_secret_value(),
            "secret_access_key": secret.get_secret_value(),
            "token": token.get_secret_value() if token else None,
            "expires_at": None,
        }

    return credentials


class _SharedCredentials:
    """The keys of a profile in Amazon's shared credentials file, read again once the file has changed.

    A transfer may outlive temporary credentials that are renewed there. So the library is told that each answer is over at
    once, and asks before each request.
    """

    def __init__(self) -> None:
        self._path = Path(_environment("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials").expanduser()
        self._profile = _environment("AWS_PROFILE") or "default"
        self._lock = threading.Lock()
        self._seen = self._version()
        self._credential = self._read()

    @property
    def found(self) -> bool:
        """Return True if the profile has both keys."""
        return self._credential is not None

    def __call__(self) -> S3Credential:
        with self._lock:
            version = self._version()
            if version is not None and version != self._seen:
                with suppress(SettingsError):  # it is just being written: the old keys stay until it has new ones
                    self._credential = self._read() or self._credential
                    self._seen = version
            assert self._credential is not None  # noqa: S101  it is asked only if `found`
            return {**self._credential, "expires_at": datetime.now(UTC)}

    def _version(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _read(self) -> S3Credential | None:
        parser = configparser.RawConfigParser()
        try:
            parser.read(self._path)
        except (configparser.Error, OSError, ValueError):
            # not chained: it quotes lines of the file
            raise SettingsError(f"The credentials file {self._path} cannot be read.") from None
        key = parser.get(self._profile, "aws_access_key_id", fallback=None)
        secret = parser.get(self._profile, "aws_secret_access_key", fallback=None)
        if not key or not secret:
            return None
        token = parser.get(self._profile, "aws_session_token", fallback=None)
        return {"access_key_id": key, "secret_access_key": secret, "token": token, "expires_at": None}


def _environment(name: str) -> str | None:
    return os.environ.get(name) or None
