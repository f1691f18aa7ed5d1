"""JSON and YAML within bounds: what is read, what is refused and where, and that what we write we read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espalier._ground.documents import dump_yaml, parse_json, parse_yaml

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")))
NUMBERS = st.integers(-(2**63), 2**63) | st.floats(allow_nan=False)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS, inner),
    max_leaves=20,
)


@given(TREES)
def test_what_is_written_as_yaml_is_read_back(tree):
    assert parse_yaml(dump_yaml(tree)) == tree


@pytest.mark.parametrize(
    "word",
    [
        "1e-3",
        "yes",
        "off",
        "1:30",
        "2026-01-31",
        "0x10",
        "010",
        "~",
        ".inf",
        "<<",
        "=",
        "null",
        "1_0",
        "",
    ],
)
def test_a_word_that_looks_like_something_else_stays_a_word(word):
    assert parse_yaml(dump_yaml({"title": word})) == {"title": word}


def test_plain_words_are_what_version_1_2_makes_of_them():
    text = "[1e-3, 5, -1.5, yes, on, 1:30, 2026-01-31, true, ~, .inf, 1_000, '7']"
    assert parse_yaml(text) == [
        0.001, 5, -1.5, "yes", "on", "1:30", "2026-01-31", True, None, math.inf, 1000, "7",
    ]  # fmt: skip


def test_what_is_there_twice_is_written_twice():
    shape = [3, 3]
    assert "&" not in dump_yaml({"a": shape, "b": shape})


REFUSED = {
    "a: &x [1]\nb: *x": r"line 2, column 4: aliases",
    "a: {<<: {b: 1}}": "merges",
    "a: !!set {b}": "tags",
    "!!python/object/apply:os.system [x]": r"line 1, column 1: tags",
    "a: 1\na: 2": r"line 2, column 1: the key 'a' is given twice",
    "{1: a, 1: b}": "given twice",
    "{1: a, true: b}": "a key is a word or a number",  # and not 1 given twice, as Python would have it
    "{null: a}": "a key is a word or a number",
    "? [a]\n: b": "a key is a word",
    "a: 1\n---\nb: 2": "second document",
    "[" * 10_000: "too deep",
    "{a: " * 10_000: "too deep",
    "- " * 10_000: "too deep",
    "[" + "a," * 300_000 + "]": "too many parts",
    "9" * 41: "41 digits",
    "1__0": "line 1",
    " " * ((1 << 23) + 1): "too large",
    "a: [": "line [12]",
    "\0": "not valid YAML",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_yaml_beyond_the_bounds_is_refused_with_its_place(text):
    with pytest.raises(ValueError, match=REFUSED[text]):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"a": 1, "a": 2}', "twice"), ("[" * 200, "too deep"), ("[" + "[]," * 300_000 + "1]", "too many"),
        ("9" * 41, "41 digits"), ("NaN", "finite"), ("1e999", "finite"), ('"\\ud800"', "surrogates"),
        ('"' + "x" * (1 << 23) + '"', "too large"), ("{", "Expecting"),
    ],
    ids=range(9),
)  # fmt: skip
def test_json_beyond_the_bounds_is_refused(text, match):
    with pytest.raises(ValueError, match=match):
        parse_json(text)


@given(TREES)
def test_json_is_read_as_the_library_reads_it(tree):
    text = json.dumps(tree)
    if "Infinity" not in text:
        assert parse_json(text) == tree
