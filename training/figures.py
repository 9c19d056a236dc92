"""How well a net's scores tell fakes, in two figures: what recipes write to metrics.json."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import log_loss, roc_auc_score


def figures(scored: pd.DataFrame) -> dict[str, Any]:
    """Of the columns label (fake = 1) and logit: log_loss (nats) and auc, to 4 places, n and fakes
    among them. None: log_loss of no rows, auc unless both classes are there.
    """
    if scored.empty:
        return {"log_loss": None, "auc": None, "n": 0, "fakes": 0}
    label, logit = scored["label"].to_numpy(int), scored["logit"].to_numpy(float)
    both = len(set(label)) == 2
    return {
        "log_loss": round(float(log_loss(label, 1 / (1 + np.exp(-logit)), labels=[0, 1])), 4),
        "auc": round(float(roc_auc_score(label, logit)), 4) if both else None,
        "n": len(label),
        "fakes": int(label.sum()),
    }
