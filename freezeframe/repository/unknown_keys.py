"""Unknown keys: the keys of a stored document that this version of the program does not know. Pure.

    {"format": 1, "guests": [{"name": "db1", "memory": {…}}], "critical": ["memory"]}
                                             └ unknown, at ("guests", 0, "memory"), and critical: the document is newer

A document's model says which keys are known, at every depth. Keys that are data (of a `dict` field) are all known, unless they
are words of a closed set.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import Enum
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel

Path = tuple[str | int, ...]


class UnknownKey(NamedTuple):
    """An unknown key, where it is, and its value as it was stored."""

    path: Path
    value: Any
    is_entry: bool = False  # of a mapping, whose entries say nothing of each other

    @property
    def owner(self) -> Path:
        """Return where the value stands whose change makes the key say something of the past; empty for the document."""
        return self.path[: -2 if self.is_entry else -1]

    def __str__(self) -> str:
        return ".".join(str(part) for part in self.path)


_Find = Callable[[Any, Path], Iterator[UnknownKey]]


def unknown_keys(kind: type[BaseModel], content: dict[str, Any]) -> tuple[UnknownKey, ...]:
    """Return the outermost unknown keys of a document of that kind, at every depth, in the order of their places.

    So documents that mean the same are equal, in whatever order their keys were stored.
    """
    return tuple(sorted(_in_model(kind)(content, ()), key=lambda one: tuple(map(str, one.path))))


def first_critical(unknown: Iterable[UnknownKey], critical: Iterable[str]) -> UnknownKey | None:
    """Return an unknown key that a reader must understand, or that has such a key within it."""
    names = set(critical)
    return next((one for one in unknown if not names.isdisjoint(_names(one))), None)


def without(content: dict[str, Any], unknown: Sequence[UnknownKey]) -> dict[str, Any]:
    """Return a document without these keys."""
    pruned = copy.deepcopy(content) if unknown else content
    for one in unknown:
        del value_at(pruned, one.path[:-1])[one.path[-1]]
    return pruned


def with_them(content: dict[str, Any], unknown: Sequence[UnknownKey]) -> dict[str, Any]:
    """Return a document with these keys too, as far as there is still a place for them."""
    restored = copy.deepcopy(content) if unknown else content
    for one in unknown:
        place = value_at(restored, one.path[:-1])
        if isinstance(place, dict):
            place.setdefault(str(one.path[-1]), one.value)
    return restored


def value_at(content: dict[str, Any], path: Path) -> Any:
    """Return the value at `path`; None if there is none."""
    found: Any = content
    for part in path:
        try:
            found = found[part]
        except (LookupError, TypeError):
            return None
    return found


def _names(one: UnknownKey) -> Iterator[str]:
    yield str(one.path[-1])
    yield from _names_within(one.value)


def _names_within(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _names_within(inner)


@cache
def _in_model(kind: type[BaseModel]) -> _Find:
    """Return the search of the objects of a model. Built once a model, since a manifest has thousands of some."""
    known = {field.alias or name: _finder(field.annotation) for name, field in kind.model_fields.items()}

    def find(value: Any, path: Path) -> Iterator[UnknownKey]:
        if not isinstance(value, dict):
            return
        for key, inner in value.items():
            if key not in known:
                yield UnknownKey((*path, key), inner)
            elif (search := known[key]) is not None:
                yield from search(inner, (*path, key))

    return find


def _finder(kind: Any) -> _Find | None:
    """Return the search of the values of a type; None for one in which no key can be unknown."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _finder(arguments[0])
    if origin in {Union, UnionType}:
        return _in_one_of([one for one in arguments if one is not type(None)])
    if origin is tuple or origin is list:
        return _in_list(_finder(arguments[0]))
    if origin is dict:
        return _in_mapping(*arguments)
    return _in_model(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _in_one_of(kinds: list[Any]) -> _Find | None:
    """Of several models that one is meant whose literals the value has; without one its literal is an unknown word."""
    if len(kinds) == 1:
        return _finder(kinds[0])
    searches = [(one, _in_model(one)) for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)]

    def find(value: Any, path: Path) -> Iterator[UnknownKey]:
        search = next((search for one, search in searches if _has_literals(one, value)), None)
        return iter(()) if search is None else search(value, path)

    return find if searches else None


def _has_literals(kind: type[BaseModel], value: Any) -> bool:
    literals = {
        name: get_args(field.annotation)
        for name, field in kind.model_fields.items()
        if get_origin(field.annotation) is Literal
    }
    return isinstance(value, dict) and all(value.get(name) in words for name, words in literals.items())


def _in_list(search: _Find | None) -> _Find | None:
    if search is None:
        return None

    def find(value: Any, path: Path) -> Iterator[UnknownKey]:
        for number, inner in enumerate(value if isinstance(value, list) else ()):
            yield from search(inner, (*path, number))

    return find


def _in_mapping(keys: Any, values: Any) -> _Find | None:
    words = frozenset(str(one.value) for one in keys) if isinstance(keys, type) and issubclass(keys, Enum) else None
    search = _finder(values)
    if words is None and search is None:
        return None

    def find(value: Any, path: Path) -> Iterator[UnknownKey]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            if words is not None and key not in words:
                yield UnknownKey((*path, key), inner, is_entry=True)
            elif search is not None:
                yield from search(inner, (*path, key))

    return find
