"""Pictures of hands: the same for the same seed, and what the eye needs is there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commons.errors import SftrlError
from worlds import hands
from worlds.deals import CARD_NAMES, SUITS

HAND = ("A", "10", "J", "7")


def pixels(names=HAND, suits=("S",) * 4, size=64, seed=0):
    return np.asarray(hands.picture(names, suits, size, seed), int)


def quarters(picture):
    half = len(picture) // 2
    return [picture[y : y + half, x : x + half] for y in (0, half) for x in (0, half)]


def reddest(picture):
    """How much more red than green or blue the reddest hundredth of the pixels is."""
    return np.sort((picture[..., 0] - picture[..., 1:].max(-1)).ravel())[
        -(len(picture) ** 2) // 100
    ]


@given(
    st.lists(st.sampled_from(list(CARD_NAMES.values())), min_size=3, max_size=5),
    st.data(), st.sampled_from([32, 64, 100]), st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_a_hand_looks_the_same_whenever_it_is_drawn(names, data, size, seed):
    suits = [data.draw(st.sampled_from(SUITS)) for _ in names]
    first = hands.picture(names, suits, size, seed)
    assert first.size == (size, size) and first == hands.picture(names, suits, size, seed)


def test_another_seed_lays_the_cards_differently():
    assert (pixels(seed=0) != pixels(seed=1)).any()


@pytest.mark.parametrize("size", [64, 560])
@pytest.mark.parametrize("place", range(4))
def test_each_card_lies_in_its_quarter(size, place):
    """Upper left, upper right, lower left, lower right: nothing else changes with its suit."""
    suits = ["S"] * 4
    suits[place] = "D"
    red = [reddest(quarter) > 60 for quarter in quarters(pixels(suits=suits, size=size))]
    assert red == [i == place for i in range(4)]


@pytest.mark.parametrize("size", [64, pytest.param(560, marks=pytest.mark.slow)])
def test_two_ranks_differ_more_than_the_noise(size):
    """Averaged over 20 ways to lie, each pair of ranks differs somewhere."""

    def mean(name):
        drawn = [pixels((name,) * 4, seed=i, size=size) for i in range(20)]
        return np.mean([quarters(picture)[0] for picture in drawn], 0)

    means = [mean(name) for name in CARD_NAMES.values()]
    gaps = [abs(a - b).max() for i, a in enumerate(means) for b in means[:i]]
    assert min(gaps) > 20


@pytest.mark.parametrize(("size", "suits"), [(8, "SSSS"), (64.0, "SSSS"), (64, "SSSX")])
def test_what_cannot_be_drawn_is_refused(size, suits):
    with pytest.raises(SftrlError, match="must be"):
        hands.picture(HAND, suits, size)
