import pytest

from espalier.errors import RequestError, UnknownNameError
from espalier.sets import NAMES, Blocks, NOfM, Unstructured, parse


def test_a_name_alone_and_a_name_with_arguments():
    assert parse("unstructured") == parse({"unstructured": {}}) == Unstructured()
    assert parse({"n_of_m": {"n": 2, "m": 4}}) == NOfM(2, 4)
    assert parse({"blocks": {"h": 4, "w": 1}}) == Blocks(4, 1)
    assert Unstructured().spec() == "unstructured"
    assert NOfM(2, 4).spec() == {"n_of_m": {"n": 2, "m": 4}}


def test_sets_are_listed_in_alphabetical_order_each_with_its_facts():
    assert list(NAMES) == sorted(NAMES)
    assert all(cls.name == name and cls.unit and cls.sentence for name, cls in NAMES.items())


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("filter", UnknownNameError, "did you mean 'filters'"),
        ({"nofm": {"n": 2}}, UnknownNameError, "did you mean 'n_of_m'"),
        ({"blocks": {"h": 1, "width": 2}}, UnknownNameError, "no argument 'width'"),
        ({"filters": {"n": 2}}, UnknownNameError, "takes no arguments"),
        ("n_of_m", RequestError, "needs all its arguments: {n_of_m: {n: …, m: …}}"),
        ({"n_of_m": {"n": 2}}, RequestError, "needs all"),
        ({"n_of_m": {"n": 2, "m": "4"}}, RequestError, "m='4'; give an integer"),
        ({"n_of_m": {"n": 2, "m": True}}, RequestError, "give an integer"),
        ({"n_of_m": 2}, RequestError, "arguments are a mapping"),
        ({"n_of_m": {"n": 5, "m": 4}}, RequestError, "1 <= n <= m"),
        ({"filters": {}, "columns": {}}, RequestError, "a set is a name"),
        ({}, RequestError, "a set is a name"),
        (None, RequestError, "a set is a name"),
    ],
)
def test_what_is_no_set_is_refused_with_what_is(spec, error, message):
    with pytest.raises(error) as caught:
        parse(spec)
    assert message in str(caught.value)
