"""All videos within the deadline: whole ones while there is time, else the first seconds."""

from __future__ import annotations

import pytest

from avfake.pace import SHORTEST, Pace


def simulate(
    deadline: float,
    count: int = 400,
    video: float = 10.0,
    fixed: float = 0.3,
    a_second: float = 0.2,
) -> tuple[list[float | None], float]:
    """(seconds looked at of each video that there was time for, when it was over)."""
    now = 0.0
    pace = Pace(deadline, workers=1, timeout=120, clock=lambda: now)
    looks: list[float | None] = []
    while len(looks) < count and not pace.is_over():
        longest = pace.longest(count - len(looks))
        spent = fixed + a_second * min(video, longest or video)
        now += spent + (0.0 if looks else 3.0)  # the models are loaded first
        pace.learn(spent, longest, video)
        looks.append(longest)
    return looks, now


def test_with_time_enough_all_is_looked_at() -> None:
    looks, _ = simulate(deadline=2000)
    assert looks == [None] * 400


def test_without_a_deadline_too() -> None:
    pace = Pace(None, workers=2, timeout=120)
    assert pace.longest(10**6) is None
    assert pace.timeout() == 120
    assert not pace.is_over()


@pytest.mark.parametrize("deadline", [300, 500, 700, 850])
def test_with_less_time_each_video_gets_its_share(deadline: float) -> None:
    looks, over = simulate(deadline)
    assert len(looks) == 400
    assert 0.85 * deadline < over <= deadline
    later = [10.0 if look is None else look for look in looks[50:-20]]
    assert min(later) > 0.6 * max(later)  # fair: not all for the first


def test_with_far_too_little_time_the_shortest_look_goes_as_far_as_it_can() -> None:
    looks, over = simulate(deadline=60)
    assert 80 < len(looks) < 400
    assert looks[-1] == SHORTEST
    assert over <= 61


def test_one_that_stalls_does_not_shorten_all_that_follow() -> None:
    now = 0.0
    pace = Pace(3000, workers=1, timeout=120, clock=lambda: now)
    for spent, duration in ((2.0, 10.0), (120.0, None), (2.0, 10.0)):
        now += spent
        pace.learn(spent, None, duration)
    assert pace.longest(397) is None
    for _ in range(25):
        now += 60
        pace.learn(60, None, None)
    assert pace.longest(380) == SHORTEST  # when many do, there is little time left


def test_no_video_reaches_beyond_the_deadline() -> None:
    now = 0.0
    pace = Pace(100, workers=1, timeout=60, clock=lambda: now)
    assert pace.timeout() == 60
    now = 70.0
    assert pace.timeout() == 30
