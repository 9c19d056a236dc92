"""How a sound shorter than a window fills it: one rule for training and for inference."""

from __future__ import annotations

import numpy as np


def repeat_to(samples: np.ndarray, length: int) -> np.ndarray:
    """The sound played over and over until it fills `length` samples; longer sound is cut.

    samples: float32 [n], n > 0. Returns float32 [length]. Looping, not silence, because a net
    that saw padding could tell short sounds from long ones by it. Raises ValueError on no sound.
    """
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError("repeat_to needs a sound of at least one sample, shape [n]")
    return np.resize(samples.astype(np.float32, copy=False), length)
