"""JSON and YAML as plain data, within bounds: size, depth, parts, the digits of a number.

Both give None, bool, int, float, str, lists and dicts with a key once; nothing else can be said, nothing is
executed, and no value is there twice. What is refused is a ``ValueError``, whose message says where.

YAML is read as its version 1.2 means it, without what version 1.1 makes of innocent words: ``1e-3`` is a number;
``yes``, ``no``, ``on``, ``off``, ``1:30`` and ``2026-01-31`` are words; there are no aliases, merges and tags.
"""

import json
import math
import re
from typing import Any, NoReturn

import yaml

from espalier.errors import shown

MAX_TEXT = 1 << 23
"""Characters of a YAML text, and by default of a JSON text."""

_MAX_DEPTH = 100
_MAX_PARTS = 1 << 20  # values of JSON; a list or mapping counts four
_MAX_YAML_PARTS = 1 << 18  # likewise of YAML, which takes longer to read
_MAX_DIGITS = 40

# Strings are matched whole, so that brackets inside of them are not counted; the quantifiers are possessive, so
# that no string makes the search go back and take quadratic time.
_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[\]{},]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str, most: int = MAX_TEXT, *, finite: bool = True) -> Any:
    """The data of a JSON text, in time and memory proportional to its length.

    Args:
        text: The text.
        most: Characters that it may have.
        finite: Whether NaN and infinities, which other programs write, are refused.

    Raises:
        ValueError: Not JSON, too long, nested too deep, too many parts, a key given twice, a number that is not
            finite or has too many digits, or half a character.

    Example:
        >>> parse_json('{"keep": [3, 4]}')
        {'keep': [3, 4]}
    """
    if len(text) > most:
        raise ValueError(f"too large: {len(text):,} characters, and at most {most:,} are read")
    depth = parts = 0
    for token in _TOKEN.finditer(text):
        kind = text[token.start()]
        if kind in "[{":
            depth, parts = depth + 1, parts + 4
        elif kind in "]}":
            depth -= 1
        elif kind == ",":
            parts += 1
        if depth > _MAX_DEPTH or parts > _MAX_PARTS:
            raise ValueError("nested too deep or has too many parts")
    found = json.loads(
        text,
        object_pairs_hook=_unique,
        parse_constant=_float if finite else float,
        parse_float=_float if finite else float,
        parse_int=_int,
    )
    if _SURROGATE.search(text):
        json.dumps(
            found, ensure_ascii=False
        ).encode()  # half a character can be neither shown nor saved
    return found


def parse_yaml(text: str) -> Any:
    """The data of a YAML text, in time and memory proportional to its length.

    Raises:
        ValueError: Not YAML, or beyond the bounds, with line and column.

    Example:
        >>> parse_yaml("{lr: 1e-3, mode: off, at: 1:30}")
        {'lr': 0.001, 'mode': 'off', 'at': '1:30'}
    """
    if len(text) > MAX_TEXT:
        raise ValueError(f"too large: {len(text):,} characters, and at most {MAX_TEXT:,} are read")
    try:
        return _built(text)
    except yaml.MarkedYAMLError as error:
        at = _place(error.problem_mark or error.context_mark)
        raise ValueError(f"{at}not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {error!s:.200}") from error


def dump_yaml(data: Any) -> str:
    """YAML that :func:`parse_yaml` gives back, keys in the order given.

    >>> print(dump_yaml({"title": "1e-3", "rho": 1e-3}), end="")
    title: '1e-3'
    rho: 0.001
    """
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


# ---- YAML ---------------------------------------------------------------------------------------

# The parser in C where there is one: events alone, since its own way from events to data follows every nesting
# on the stack of the process, and so ends it.
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)")
_FLOAT = re.compile(
    r"[-+]?(?:(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.inf)|\.nan"
)
_NO_VALUE = object()


def _built(text: str) -> Any:
    # One list of what is still open instead of calls within calls: no text can exhaust the stack.
    open_: list[tuple[Any, Any]] = []  # lists and mappings, and the key that waits for its value
    root: Any = _NO_VALUE
    parts = 0
    for event in yaml.parse(text, Loader=_PARSER):
        if isinstance(event, yaml.AliasEvent):
            _refuse(event, f"aliases (*{event.anchor:.20}) are not read; write it out")
        if isinstance(event, yaml.DocumentStartEvent) and root is not _NO_VALUE:
            _refuse(event, "there is a second document; give one")
        if isinstance(event, yaml.NodeEvent):
            parts += 1 if isinstance(event, yaml.ScalarEvent) else 4
            tag = getattr(event, "tag", None)
            if tag is not None:
                _refuse(event, f"tags ({tag:.40}) are not read; leave it out")
            if len(open_) > _MAX_DEPTH or parts > _MAX_YAML_PARTS:
                _refuse(event, "nested too deep or has too many parts")
        if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
            open_.append(([] if isinstance(event, yaml.SequenceStartEvent) else {}, _NO_VALUE))
            continue
        if isinstance(event, yaml.ScalarEvent):
            value = _scalar(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            value, _ = open_.pop()
        else:
            continue
        if not open_:
            root = value
            continue
        inner, key = open_[-1]
        if isinstance(inner, list):
            inner.append(value)
        elif key is not _NO_VALUE:
            inner[key] = value
            open_[-1] = inner, _NO_VALUE
        else:
            if value is None or isinstance(value, list | dict | bool):
                _refuse(event, "a key is a word or a number")
            if value == "<<":
                _refuse(event, "merges (<<) are not read; write it out")
            if value in inner:
                _refuse(event, f"the key {shown(value)} is given twice")
            open_[-1] = inner, value
    return None if root is _NO_VALUE else root


def _scalar(event: yaml.ScalarEvent) -> Any:
    text: str = event.value
    if not event.implicit[0]:  # in quotes, or a block of text
        return text
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    try:
        if _INT.fullmatch(text):
            return _int(text)
        if _FLOAT.fullmatch(text):
            return float(text.replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError as error:
        _refuse(event, str(error))
    return text


def _refuse(event: yaml.Event, problem: str) -> NoReturn:
    raise ValueError(f"{_place(event.start_mark)}{problem}")


def _place(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""


class _Dumper(yaml.SafeDumper):
    """What is there twice is written twice; what we would read as a number is quoted."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


# ---- JSON ---------------------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _float(text: str) -> float:
    value = math.nan if text == "NaN" else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.40} is not a JSON number, which is finite")
    return value


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits; at most {_MAX_DIGITS} are read")
    return int(text)
