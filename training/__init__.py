"""The workshop: it makes the models."""

import avfake  # noqa: F401  before anything here imports onnxruntime: see there
