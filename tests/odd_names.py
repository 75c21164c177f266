"""Names of guests that libvirt accepts and that programs get wrong (case I5)."""

from __future__ import annotations

ODD_NAMES = (
    "db 1",
    "a,b",
    "a:b",
    "a:vdb",
    "a:pause",
    "web:",
    "db@prod",
    "@",
    "a=b",
    "a:vda=b",
    "it's",
    '"quoted"',
    "$HOME",
    "`id`",
    "a;b&c|d>e",
    "a\\b",
    "*",
    "[bold]x",
    ":smile:",
    "{guest}",
    "100%",
    "~",
    " leading and trailing ",
    "Grüße",
    "数据库",
    "🦊",
    "5",
)
