"""Looping a short sound into a window."""

from __future__ import annotations

import numpy as np
import pytest

from avfake.windows import repeat_to


def test_a_short_sound_loops_from_its_start() -> None:
    looped = repeat_to(np.float32([1, 2, 3]), 8)
    assert looped.dtype == np.float32
    assert looped.tolist() == [1, 2, 3, 1, 2, 3, 1, 2]


def test_a_long_sound_is_cut() -> None:
    assert repeat_to(np.arange(9, dtype=np.float32), 4).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("bad", [np.zeros(0, np.float32), np.zeros((2, 4), np.float32)])
def test_no_sound_is_an_error(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        repeat_to(bad, 4)
