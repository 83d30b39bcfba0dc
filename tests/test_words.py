"""Values from outside, as messages show them."""

import pytest

from ilo.operators import build
from ilo.pictures import Crop
from ilo.recipe import Shared
from ilo.settings import RoundSettings, SettingsError, SolverSettings
from ilo.words import listed, shown

LONG = "<" * 1_000_000


class Rude:
    def __repr__(self):
        return "\x1b[2J\nrude"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (1.5, "1.5"),
        ("a\x1b[31m\n\u202e", r"'a\x1b[31m\n\u202e'"),
        ("é 漢", "'é 漢'"),
        ("x" * 78, f"'{'x' * 78}'"),
        ("x" * 79, f"'{'x' * 78}…"),
        (list(range(1000)), f"{str(list(range(1000)))[:79]}…"),
        pytest.param(10**5000, "a value of the type int that cannot be shown", id="digits"),
        (Rude(), r"\x1b[2J\nrude"),
    ],
)
def test_a_value_is_shown_on_one_short_line(value, words):
    assert shown(value) == words


def test_names_stand_in_a_row():
    assert listed(["a", "b\n"]) == r"a, b\n"
    assert len(listed([LONG, LONG])) == 80


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Crop(LONG, 0.5, 1.0),
        lambda: RoundSettings(steps=LONG),
        lambda: SolverSettings((RoundSettings(),), dtype=LONG),
        lambda: SolverSettings.from_dict({"rounds": [{LONG: 1}]}),
        lambda: SolverSettings.from_dict({"rounds": [LONG]}),
        lambda: build(LONG, 64),
        lambda: build("identity", 64, **{LONG: 1}),
        lambda: build("compose", 64, operators=LONG),
        lambda: Shared.from_query({"task": LONG}),
        lambda: Shared.from_query({"task": "identity", "seed": LONG}),
        lambda: Shared.from_query({"task": "identity", "operator": f'{{"{LONG}": 1}}'}),
    ],
)
def test_a_message_stays_short_whatever_was_sent(wrong):
    with pytest.raises(SettingsError) as error:
        wrong()
    assert len(str(error.value)) < 500


def test_a_class_s_name_is_not_compared_letter_by_letter_for_minutes(guide):
    with pytest.raises(SettingsError) as error:
        guide.index("frog " * 200_000)
    assert len(str(error.value)) < 500
