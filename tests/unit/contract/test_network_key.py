"""One piece of network storage has one key, however its server and name are written (P2)."""

from __future__ import annotations

import pytest

from freezeframe.network_key import network_keys
from freezeframe.storage_key import is_everywhere

pytestmark = pytest.mark.case("P2")


def nbd(servers: str, name: str = "x") -> dict[str, str]:
    return {"protocol": "nbd", "name": name, "servers": servers}


def iscsi(name: str) -> dict[str, str]:
    return {"protocol": "iscsi", "name": name}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nbd("localhost:10809"), nbd("127.0.0.1:10809")),
        (nbd("localhost:10809"), nbd("::1:10809")),
        (nbd("localhost:10809"), nbd("[::1]:")),
        (nbd("localhost:"), nbd("0.0.0.0:10809")),
        (nbd("localhost.localdomain:"), nbd("ip6-localhost:10809")),
        (nbd("s:10809"), nbd("s:")),
        (nbd("S.Example.Org:10809"), nbd("s.example.org.:")),
        (nbd("[2001:db8::0:1]:10809"), nbd("2001:DB8::1:10809")),
        (nbd("::ffff:192.0.2.1:10809"), nbd("192.0.2.1:10809")),
        (iscsi("iqn.2026-01.org.example:t"), iscsi("iqn.2026-01.org.example:t/0")),
        (iscsi("iqn.2026-01.org.example:T/1"), iscsi("IQN.2026-01.org.example:t/01")),
        ({"protocol": "http", "name": "a/b", "servers": "s:"}, {"protocol": "http", "name": "/a/b", "servers": "s:80"}),
        (
            {"protocol": "gluster", "name": "v/i", "servers": "s1: s2:"},
            {"protocol": "gluster", "name": "v/i", "servers": "s2:24007"},
        ),
    ],
)
def test_two_spellings_of_one_source_share_a_key(one: dict[str, str], other: dict[str, str]) -> None:
    assert network_keys(one) & network_keys(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nbd("s:10809"), nbd("s:10810")),
        (nbd("s:10809"), nbd("t:10809")),
        (nbd("s:10809", "x"), nbd("s:10809", "y")),
        (nbd("s:10809", "x"), nbd("s:10809", "/x")),
        (nbd("/run/a.sock"), nbd("/run/b.sock")),
        (iscsi("iqn.2026-01.org.example:t/1"), iscsi("iqn.2026-01.org.example:t/10")),
        (iscsi("iqn.2026-01.org.example:t/1"), iscsi("iqn.2026-01.org.example:t")),
        ({"protocol": "rbd", "name": "p/i"}, {"protocol": "rbd", "name": "p/i", "snapshot": "s"}),
        (
            {"protocol": "http", "name": "a", "servers": "s:"},
            {"protocol": "http", "name": "a", "servers": "s:", "query": "q"},
        ),
        ({"protocol": "http", "name": "a", "servers": "s:"}, {"protocol": "ssh", "name": "a", "servers": "s:"}),
    ],
)
def test_two_sources_share_none(one: dict[str, str], other: dict[str, str]) -> None:
    assert network_keys(one)
    assert network_keys(other)
    assert not network_keys(one) & network_keys(other)


@pytest.mark.parametrize(
    ("facts", "everywhere"),
    [
        (nbd("store:10809"), True),
        (nbd("192.0.2.1:10809"), True),
        (nbd("localhost:10809"), False),
        (nbd("127.8.0.1:10809"), False),
        (nbd("/run/nbd.sock"), False),
        (nbd(""), False),
        (iscsi("iqn.2026-01.org.example:t/1"), True),
        ({"protocol": "rbd", "name": "p/i"}, False),
    ],
)
def test_what_another_host_means_by_it_is_told(facts: dict[str, str], everywhere: bool) -> None:  # noqa: FBT001
    assert {is_everywhere(key) for key in network_keys(facts)} == {everywhere}


def test_what_is_no_network_storage_has_no_key() -> None:
    assert network_keys({"type": "pci", "address bus": "0x01"}) == frozenset()
