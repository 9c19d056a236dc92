"""avfake: how likely is this video a deepfake? Face, voice and lip-sync, one calibrated answer.

    import avfake
    print(avfake.predict("clip.mp4"))

`predict` loads the default models on its first call and keeps them. For other models, or to be in
charge of loading, use `Detector.from_pretrained`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# onnxruntime's builds send telemetry to their maker unless this is set before their first import
# (its Privacy.md). Here nothing is sent anywhere.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"
__all__ = ["AvfakeError", "Detector", "Prediction", "__version__", "predict"]

if TYPE_CHECKING:
    from avfake.detector import Detector, predict
    from avfake.types import AvfakeError, Prediction

_HOMES = {
    "AvfakeError": "avfake.types",
    "Detector": "avfake.detector",
    "Prediction": "avfake.types",
    "predict": "avfake.detector",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `import avfake` alone costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'avfake' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
