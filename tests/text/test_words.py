"""Formatting untrusted values for messages."""

from collections import OrderedDict

import pytest

from ilo.text.words import reason, shown


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a", "'a'"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "True"),
        (None, "None"),
        ([1, "b"], "[1, 'b']"),
        ({"a": 1}, "{'a': 1}"),
        ("\x1b[31m\n\u202e", r"'\x1b[31m\n\u202e'"),
        (object(), "<object>"),
        (OrderedDict(a=1), "<OrderedDict>"),
        (b"\0" * 2, r"b'\x00\x00'"),
    ],
)
def test_small_values(value, text):
    assert shown(value) == text


@pytest.mark.parametrize(
    "value",
    ["x" * 10**7, b"x" * 10**7, [0] * 10**6, {i: "x" * 1000 for i in range(1000)}, ["\n" * 10**6] * 9, 10**100],
    ids=["text", "bytes", "list", "dict", "texts", "number"],
)
def test_large_values_are_cut(value):
    assert len(shown(value)) <= 80
    assert len(shown(value, 20)) <= 20
    assert shown(value).isprintable()


def test_what_cannot_be_written_at_all():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    assert len(shown(deep)) <= 80
    assert shown(10**5000) == "<a number of very many digits>"
    assert reason(ValueError("a\n\x1b" + "b" * 1000)).startswith("a \\x1bbbb")
    assert len(reason(ValueError("b" * 1000))) < 130
