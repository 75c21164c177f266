"""The variables that Kubernetes gives each container for the services of its namespace.

A service that is named freezeframe-redis, with a port 6379 that is named redis:

    FREEZEFRAME_REDIS_SERVICE_HOST           10.0.0.11
    FREEZEFRAME_REDIS_SERVICE_PORT           6379
    FREEZEFRAME_REDIS_SERVICE_PORT_REDIS     6379
    FREEZEFRAME_REDIS_PORT                   tcp://10.0.0.11:6379
    FREEZEFRAME_REDIS_PORT_6379_TCP          tcp://10.0.0.11:6379
    FREEZEFRAME_REDIS_PORT_6379_TCP_PROTO    tcp
    FREEZEFRAME_REDIS_PORT_6379_TCP_PORT     6379
    FREEZEFRAME_REDIS_PORT_6379_TCP_ADDR     10.0.0.11

Their names alone do not tell them from a misspelled setting, such as FREEZEFRAME_METRIC_PORT. So a variable counts as a
service's only if its value has that form, and the service's address is there too.
[Kubernetes, Service: environment variables] Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final

_HOST: Final = "_SERVICE_HOST"
_PROTOCOLS: Final = ("tcp", "udp", "sctp")
_HIGHEST_PORT: Final = 65535
_URL: Final = re.compile(r"([a-z]+)://(.+):([0-9]+)")


def is_of_a_service(name: str, env: Mapping[str, str]) -> bool:
    """Return True if Kubernetes gave this variable to the container."""
    for pattern, has_form in _FORMS.items():
        found = re.fullmatch(pattern, name)
        if found and has_form(env[name]) and _is_address(env.get(found[1] + _HOST, "")):
            return True
    return False


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and 0 < int(text) <= _HIGHEST_PORT


def _is_url(text: str) -> bool:
    found = _URL.fullmatch(text)
    return found is not None and found[1] in _PROTOCOLS and _is_address(found[2]) and _is_port(found[3])


#: The first group is the service's name. Of two patterns that fit, either will do.
_FORMS: Final[dict[str, Callable[[str], bool]]] = {
    r"(.+)_SERVICE_HOST": _is_address,
    r"(.+)_SERVICE_PORT(?:_[A-Z0-9_]+)?": _is_port,
    r"(.+)_PORT": _is_url,
    r"(.+)_PORT_[0-9]+_(?:TCP|UDP|SCTP)": _is_url,
    r"(.+)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PROTO": _PROTOCOLS.__contains__,
    r"(.+)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_PORT": _is_port,
    r"(.+)_PORT_[0-9]+_(?:TCP|UDP|SCTP)_ADDR": _is_address,
}
