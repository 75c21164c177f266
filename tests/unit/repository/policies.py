"""The rights that docs/security.md gives each role in object storage, held against every request."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from .s3 import Asked, Reply

PAGE = Path(__file__).parents[3] / "docs/security.md"

#: A condition that a policy of ours may have: the request creates, and never replaces.
CREATES = {"Null": {"s3:if-none-match": "false"}}


def policies() -> dict[str, dict[str, Any]]:
    """Return the policies of the page, by the bold word before each."""
    found = re.findall(r"\*\*(\w+)\*\*[^\n]*\n\n```json\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    return {role: json.loads(text) for role, text in found}


@dataclass(frozen=True)
class Act:
    """What a request asks to be allowed."""

    action: str
    resource: str
    creates: bool = False


def acts_of(asked: Asked) -> list[Act]:
    """Return what a request asks to be allowed, as Amazon names it."""
    parts = urlsplit(asked.path)
    query = parse_qs(parts.query, keep_blank_values=True)
    resource = f"arn:aws:s3:::{unquote(parts.path).strip('/')}"
    if "list-type" in query:
        return [Act("s3:ListBucket", resource)]
    if asked.method in {"GET", "HEAD"}:
        return [Act("s3:GetObject", resource)]
    if asked.method == "DELETE":
        return [Act("s3:AbortMultipartUpload" if "uploadId" in query else "s3:DeleteObject", resource)]
    if source := asked.headers.get("x-amz-copy-source"):
        copied = Act("s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/')}")
        return [copied, Act("s3:PutObject", resource, asked.create)]
    return [Act("s3:PutObject", resource, asked.create)]


def role_of(asked: Asked) -> str:
    """Return the role whose credentials the request is signed with: in its header, or in a signed URL."""
    signed = parse_qs(urlsplit(asked.path).query).get("X-Amz-Credential", [""])[0]
    return asked.key or signed.partition("/")[0]


@dataclass
class Guard:
    """Refuses what the policy of a role does not allow, and remembers what each has used of its policy."""

    policies: dict[str, dict[str, Any]] = field(default_factory=policies)
    used: dict[str, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))
    acts: list[tuple[str, Act]] = field(default_factory=list)
    refused: list[tuple[str, Act]] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Reply | None:
        role = role_of(asked)
        for act in acts_of(asked):
            self.acts.append((role, act))
            grants = self._grants(role, act)
            if not grants:
                self.refused.append((role, act))
                return Reply.error(403, "AccessDenied")
            self.used[role].update(grants)
        return None

    def granted(self, role: str) -> set[tuple[str, str]]:
        """Return all actions of a role's policy, each with its resource."""
        return {
            (action, resource)
            for statement in self.policies[role]["Statement"]
            for action in _several(statement["Action"])
            for resource in _several(statement["Resource"])
        }

    def _grants(self, role: str, act: Act) -> set[tuple[str, str]]:
        return {
            (act.action, resource)
            for statement in self.policies[role]["Statement"]
            if act.action in _several(statement["Action"]) and _holds(statement.get("Condition"), act)
            for resource in _several(statement["Resource"])
            if fnmatchcase(act.resource, resource)
        }


def _holds(condition: object, act: Act) -> bool:
    assert condition is None or condition == CREATES
    return condition is None or act.creates


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
