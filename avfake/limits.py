"""How much one file may ask for: the bounds that keep a hostile or a huge clip from costing much.

What each of them does to a file beyond it is said in `Limits`; the options of the command line are
in `cli_limits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Limits:
    """Bounds for one file; each is more than 0, and `math.inf` takes one away where it is a float.

    `pixels`: of one picture, width times height; a file with a larger one is an error `too_large`,
    and none of more than twice as many is decoded. `seconds`: of the clip, on its own clock; a
    longer one is judged by its beginning, with the warning `truncated`. `bytes`: of the file; a
    larger one is an error `file_too_large`, without being read. `decode_seconds`: spent in
    opening, decoding and converting, however many stages run beside it; a file that takes longer is
    an error `decode_too_slow` and never a shortened look, so that no score depends on how fast a
    machine is. `memory`: resident bytes of a worker process, kept by its supervisor
    (`avfake.process`): a file that makes its worker grow beyond them is an error `out_of_memory`.
    Within one process nobody keeps that last one.
    """

    pixels: int = 40_000_000
    seconds: float = 3600.0
    bytes: int = 16 << 30
    decode_seconds: float = 600.0
    memory: int = 3 << 30

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if math.isnan(value) or value <= 0:
                raise ValueError(f"Limits.{field.name} must be more than 0, not {value}")


DEFAULT_LIMITS = Limits()


def is_memory_fault(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, in the words of whoever raised it.

    Python, numpy, Pillow and PyAV raise a MemoryError. OpenCV has its code -4 (StsNoMem) for it,
    onnxruntime only words.
    """
    if isinstance(error, MemoryError):
        return True
    module = type(error).__module__
    if module.startswith("cv2"):
        return getattr(error, "code", None) == -4
    if module.startswith("onnxruntime"):
        return any(words in str(error) for words in ("bad_alloc", "Failed to allocate memory"))
    return False
