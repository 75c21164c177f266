"""Count the work of a call in a way that is the same on each machine and in each run.

    steps  =  lines of Python that are executed, calls and returns  (sys.settrace)
           +  comparisons and hashes of texts, each a call of its own (`Text`)

A search through a tuple is one step to the interpreter, however long the tuple is. So the texts of a capture are of a class
whose comparisons are calls of Python code. C code that neither runs Python nor compares texts is not counted: copies of tuples,
and what pydantic does with values.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from types import FrameType
from typing import Any, TypeVar

from pydantic import BaseModel

ValueT = TypeVar("ValueT")


class Text(str):
    """A text of which each comparison and each hash is a call that is counted."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return str.__ne__(self, other)

    def __hash__(self) -> int:
        return str.__hash__(self)


def counted(value: ValueT) -> ValueT:
    """Return a value with each text in it replaced by one whose comparisons are counted."""
    return _counted(value, {})  # type: ignore[no-any-return]


def _counted(value: Any, done: dict[int, Any]) -> Any:
    """`done` has what a value became that is there more than once, by its identity."""
    if type(value) is str:  # no member of an enumeration
        return Text(value)
    if id(value) not in done:
        done[id(value)] = _made(value, done)
    return done[id(value)]


def _made(value: Any, done: dict[int, Any]) -> Any:
    if isinstance(value, BaseModel):
        found = {name: _counted(getattr(value, name), done) for name in type(value).model_fields}
        return value.model_copy(update=found)
    if isinstance(value, Mapping):
        return {_counted(key, done): _counted(one, done) for key, one in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_counted(one, done) for one in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: _counted(getattr(value, field.name), done) for field in fields(value)})
    return value


def steps_of(call: Callable[[], object]) -> int:
    """Return how many steps a call takes in this thread."""
    number = 0

    def trace(_frame: FrameType, _event: str, _what: Any) -> Any:
        nonlocal number
        number += 1
        return trace

    before, collects = sys.gettrace(), gc.isenabled()
    gc.disable()  # other libraries are told of collections, by Python
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
        if collects:
            gc.enable()
    return number
