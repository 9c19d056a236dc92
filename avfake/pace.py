"""How much of each video there is time for, when all must be looked at by a deadline."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from statistics import mean

SHORTEST = 1.0
"""Seconds of a video below which looking is not worth while."""
_GUESS = 10.0  # seconds that a video lasts, until one was seen (DFDC's do)
_RECENT = 50  # videos from which speed is measured
_SPARE = 0.95  # of the time that is left, to plan with


class Pace:
    """Shares the time that is left among the videos that are left.

    `until`: when to be through, on `clock`, None for whenever; `workers`: how many videos are
    looked at side by side; `timeout`: seconds that one may take at most.
    """

    def __init__(
        self,
        until: float | None,
        workers: int,
        timeout: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._until = until
        self._workers = workers
        self._timeout = timeout
        self._clock = clock
        self._spent: deque[float] = deque(maxlen=_RECENT)
        self._wasted: deque[float] = deque(maxlen=_RECENT)
        self._worked: deque[float] = deque(maxlen=_RECENT)
        self._looked: deque[float] = deque(maxlen=_RECENT)
        self._durations: deque[float] = deque(maxlen=_RECENT)

    def learn(self, spent: float, longest: float | None, duration: float | None) -> None:
        """One video is done: seconds that it took, seconds that it might look at (None for
        all), seconds that the video lasts (None where it could not be looked at)."""
        self._spent.append(spent)
        self._wasted.append(spent if duration is None else 0.0)
        if duration:
            self._durations.append(duration)
            self._worked.append(spent)
            self._looked.append(duration if longest is None else min(duration, longest))

    @property
    def seconds(self) -> float | None:
        """Mean seconds from one video done to the next; None before the first."""
        return mean(self._spent) / self._workers if self._spent else None

    @property
    def rate(self) -> float:
        """Seconds of work a second of video looked at; a slow machine's before any was."""
        return sum(self._worked) / sum(self._looked) if self._looked else 1.0

    def is_over(self) -> bool:
        """Whether there is no time left even for the shortest look."""
        return self._until is not None and self._until - self._clock() < SHORTEST * self.rate

    def longest(self, left: int) -> float | None:
        """Seconds of the next of `left` videos that there is time for; None for all of it."""
        if self._until is None or not self._spent:
            return None
        waste = sum(self._wasted) / _RECENT  # on files that crash or stall
        share = _SPARE * (self._until - self._clock()) * self._workers / left - waste
        duration = mean(self._durations) if self._durations else _GUESS
        if duration * self.rate <= share:
            return None
        return max(SHORTEST, share / self.rate)

    def shortened(self) -> float:
        """Seconds of a video that half the time-out pays for."""
        return max(SHORTEST, 0.5 * self._timeout / self.rate)

    def timeout(self) -> float:
        """Seconds that the next video may take: no video reaches beyond the deadline."""
        if self._until is None:
            return self._timeout
        return min(self._timeout, max(0.1, self._until - self._clock()))
