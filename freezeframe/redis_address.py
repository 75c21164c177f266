"""What the address of Redis may say, found out when the settings are read. Pure, but for files that it names.

    redis://[[user]:password@]host[:port][/database]
    rediss://…                                          with TLS: ssl_ca_certs, ssl_cert_reqs and others of `_TLS` as options
    unix://[[user]:password@]/path/of/the/socket[?db=database]
    redis+sentinel://…, rediss+sentinel://…             `freezeframe.sentinel`

redis-py, kombu and Celery each read an address in their own way. They pass options on that they do not know, and fail at the
first connection without the setting's name; others each reads differently, so that orders would wait in one database, and
workers in another. So only options are taken that all of them understand. No error tells a part of an address but the name
of an option.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

from freezeframe import sentinel

#: What an address may begin with.
SCHEMES: Final = ("redis", "rediss", "unix", *sentinel.SCHEMES)
#: Options by which redis-py bounds its connections, and what bounds them here.
_BOUNDS: Final = frozenset({"socket_timeout", "socket_connect_timeout", "timeout"})


def _file(value: str) -> str | None:
    path = Path(value)
    if not path.is_absolute():
        return "is no absolute path of a file"
    try:
        is_read = path.is_file() and os.access(path, os.R_OK)
    except OSError:  # a directory on the way may not be searched
        is_read = False
    return None if is_read else "names no file that can be read"


def _directory(value: str) -> str | None:
    try:
        return None if Path(value).is_absolute() and Path(value).is_dir() else "is no absolute path of a directory"
    except OSError:
        return "names no directory that can be read"


def _one_of(*values: str) -> Callable[[str], str | None]:
    return lambda value: None if value in values else f"must be one of {', '.join(values)}"


def _text(_: str) -> None:
    return None


#: Options of an address with TLS: each tells what is wrong with a value.
_TLS: Final[Mapping[str, Callable[[str], str | None]]] = {
    "ssl_ca_certs": _file,
    "ssl_ca_path": _directory,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_certfile": _file,
    "ssl_check_hostname": _one_of("true", "false"),
    "ssl_ciphers": _text,
    "ssl_keyfile": _file,
    "ssl_password": _text,
}
_SENTINEL: Final[Mapping[str, Callable[[str], str | None]]] = dict.fromkeys(sentinel.OWN, _text)
_UNIX: Final[Mapping[str, Callable[[str], str | None]]] = {
    "db": lambda value: None if re.fullmatch("[0-9]+", value) else "is no database's number"
}


def checked(address: str) -> str:
    """Return an address as all read it: without blanks around it, its scheme in small letters. Raises ValueError."""
    address = address.strip()
    scheme, separator, rest = address.partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in SCHEMES:
        begins = f"begins with {scheme}://" if separator and re.fullmatch("[a-z0-9.+-]+", scheme) else "has no scheme"
        raise ValueError(f"it {begins}, and must begin with one of {', '.join(f'{one}://' for one in SCHEMES)}")
    address = f"{scheme}://{rest}"
    if re.search(r"[\x00-\x1f\x7f]", address):
        raise ValueError("it has a control character, which is written %0A, say")
    if "#" in address:
        raise ValueError("it has a #, which is written %23 in a password")
    if sentinel.is_of(address):
        sentinel.Primary.parse(address)
    else:
        _check_place(_split(address))
    _check_options(scheme, address.partition("?")[2])
    return address


def _split(address: str) -> SplitResult:
    try:
        return urlsplit(address)
    except ValueError:  # which names the password
        raise ValueError("it cannot be read as an address") from None


def _check_place(url: SplitResult) -> None:
    """Raise ValueError if it names no server and database."""
    if url.scheme == "unix":
        if not url.path.startswith("/") or url.path == "/" or url.hostname:
            raise ValueError("it names no socket, as in unix:///run/redis/redis.sock")
        return
    try:
        port = url.port
    except ValueError:
        port = 0
    if not sentinel.is_host(url.hostname) or port == 0:
        raise ValueError("it names no host and port, as in redis://redis.example.org:6379/0")
    if not re.fullmatch("(/[0-9]*)?", url.path):
        raise ValueError("its path is no database's number, as in redis://redis.example.org:6379/0")


def _check_options(scheme: str, query: str) -> None:
    """Raise ValueError for an option that is not known or has a wrong value."""
    secure = scheme.startswith("rediss")
    of_sentinels = scheme in sentinel.SCHEMES
    known = {
        **(_TLS if secure else {}),
        **(_SENTINEL if of_sentinels else {}),
        **(_UNIX if scheme == "unix" else {}),
    }
    seen = set[str]()
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(_not_known(scheme, name, query))
        if name in seen:
            raise ValueError(f"it has the option {name} twice")
        seen.add(name)
        wrong = known[name](value) if value else "has no value"
        if wrong:
            raise ValueError(f"its option {name} {wrong}")


def _not_known(scheme: str, name: str, query: str) -> str:
    """Return what is wrong with an option."""
    if "@" in query or not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name):
        return "it has a ? and no options after it; in a password a ? is written %3F, and an @ %40"
    if name in _BOUNDS:
        return f"it has the option {name}; how long Redis may take is the setting redis_timeout_s"
    if name == "db":
        return "it has the option db; the database's number is its path, as in redis://redis.example.org:6379/0"
    if name in _TLS:
        return f"it has the option {name}, which needs {'rediss+sentinel' if 'sentinel' in scheme else 'rediss'}://"
    if name in _SENTINEL:
        return f"it has the option {name}, which needs {' or '.join(f'{one}://' for one in sentinel.SCHEMES)}"
    return f"it has the option {name}, which is not known"
