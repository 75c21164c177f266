"""Requests that the library has only signed: sent here, over connections that are kept, by urllib3.

The address, the authorities of TLS and the proxies are the library's own: the system's certificates (or SSL_CERT_FILE and
SSL_CERT_DIR), and HTTPS_PROXY, HTTP_PROXY, ALL_PROXY and NO_PROXY.
"""

from __future__ import annotations

import logging
import ssl
import time
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from urllib3 import PoolManager, ProxyManager, Timeout
from urllib3.exceptions import HTTPError, ProtocolError, ProxySchemeUnknown
from urllib3.util import make_headers

from freezeframe.repository.errors import RepositoryNotReadable
from freezeframe.repository.store.s3_fault import Answer, error_of
from freezeframe.settings import SettingsError

if TYPE_CHECKING:
    from urllib3.response import BaseHTTPResponse

#: Seconds to connect. Packets that nobody answers must not use up the whole time of a request.
CONNECT_TIMEOUT_S: Final = 5

#: Connections that are kept: as many as ask at once.
_KEPT: Final = 64

_PIECE_BYTES: Final = 1 << 16

#: A signed request has no Authorization header, which would keep a cache between here and the server from answering it.
_HEADERS: Final = {"Cache-Control": "no-cache", "Pragma": "no-cache"}


def _has_no_signature(record: logging.LogRecord) -> bool:
    return "X-Amz-" not in record.getMessage()


for _name in ("connection", "connectionpool"):  # which log URLs; who has a signed one may use it for 20 minutes
    logging.getLogger(f"urllib3.{_name}").addFilter(_has_no_signature)


class Sender:
    """Sends signed requests to one server. Any thread may call. `timeout_s` is for each request, in whole."""

    def __init__(self, endpoint: str, timeout_s: float) -> None:
        """`endpoint` is any URL of the server. Raises SettingsError for a proxy that cannot be used."""
        self._timeout_s = timeout_s
        self._pool = _pool(endpoint)

    def get(self, url: str, place: str, bytes_max: int) -> bytes:
        """Return what the server says. Raises RepositoryNotReadable and others of `error_of`, naming the place.

        An answer of more than `bytes_max` bytes counts as one that cannot be understood.
        """
        try:
            return self._asked(url, place, bytes_max)
        except (HTTPError, OSError) as error:  # not chained: it has the signed URL
            answer = Answer(no_http=True, untrusted=Answer.of(str(error)).untrusted)
        raise error_of(answer, f"Reading {place}", place, RepositoryNotReadable)

    def _asked(self, url: str, place: str, bytes_max: int) -> bytes:
        until = time.monotonic() + self._timeout_s
        try:
            answer = self._sent(url)
        except ProtocolError:  # the server has closed a connection that was kept, at this very moment
            answer = self._sent(url)
        try:
            said = _read(answer, until, bytes_max)
        except BaseException:
            answer.close()  # what follows on this connection would be the rest of the answer
            raise
        answer.release_conn()
        if answer.status != 200:
            told = Answer.of(f"status code: {answer.status} {said.decode(errors='replace')}")
            if told.status == 404 and told.code != "NoSuchBucket":  # a folder that is not there has an empty listing
                told = replace(told, garbled=True)
            raise error_of(told, f"Reading {place}", place, RepositoryNotReadable)
        return said

    def _sent(self, url: str) -> BaseHTTPResponse:
        timeout = Timeout(connect=min(CONNECT_TIMEOUT_S, self._timeout_s), read=self._timeout_s)
        return self._pool.request(
            "GET", url, headers=_HEADERS, timeout=timeout, retries=False, redirect=False, preload_content=False
        )


def _read(answer: BaseHTTPResponse, until: float, bytes_max: int) -> bytes:
    said = bytearray()
    while piece := answer.read1(_PIECE_BYTES):
        said += piece
        if len(said) > bytes_max:
            raise HTTPError("an answer that is too long")
        if time.monotonic() > until:  # a read has its own time, so a slow server could take for ever
            raise HTTPError("an answer that takes too long")
    return bytes(said)


def _pool(endpoint: str) -> PoolManager:
    proxy = proxy_of(endpoint)
    context = ssl.create_default_context()
    if proxy is None:
        return PoolManager(maxsize=_KEPT, ssl_context=context)
    parts = urlsplit(proxy)
    user = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
    try:
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        return ProxyManager(bare, proxy_headers=make_headers(proxy_basic_auth=user), maxsize=_KEPT, ssl_context=context)
    except (ProxySchemeUnknown, HTTPError):
        raise SettingsError(
            f"The proxy for {urlsplit(endpoint).hostname} cannot be used: it must begin with http:// or https://.",
            advice="Set HTTPS_PROXY or HTTP_PROXY to another one, or name the server in NO_PROXY.",
        ) from None


def proxy_of(endpoint: str) -> str | None:
    """Return the URL of the proxy that the environment has for requests to a server; None if there is none."""
    parts, proxies = urlsplit(endpoint), getproxies()
    host = parts.hostname or ""
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(host) or _in_a_network(host, proxies.get("no", "")):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _in_a_network(host: str, exceptions: str) -> bool:
    """Return True if the host is an address in one of the networks among the exceptions, as 10.0.0.0/8."""
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for one in exceptions.split(","):
        try:
            if address in ip_network(one.strip(), strict=False):
                return True
        except ValueError:  # a name
            continue
    return False
