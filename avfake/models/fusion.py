"""The fusion head: three calibrated log-odds and which of them are there -> one log-odds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BRANCHES = 3


class FusionNet(nn.Module):
    """A monotone perceptron: more evidence of a fake in any branch never lowers the answer.

    Inputs: `logits` float32 [N, 3], calibrated log-odds of visual, audio and lip-sync (any finite
    value where absent); `present` float32 [N, 3], 1 where the branch answered and 0 where not.
    Output: `logit` float32 [N].

    Weights from the evidence to the answer are kept positive by softplus (Sill 1998, "Monotonic
    networks"); the mask only moves thresholds, so that the prior may differ with what is missing.
    `temperature` divides the answer (Guo et al. 2017) and is fitted after training.
    """

    INPUTS = ("logits", "present")
    OUTPUTS = ("logit",)

    def __init__(self, hidden: int = 8) -> None:
        super().__init__()
        self.evidence = nn.Parameter(torch.randn(hidden, BRANCHES))
        self.out = nn.Parameter(torch.zeros(hidden))
        self.straight = nn.Parameter(torch.zeros(BRANCHES))
        self.mask = nn.Linear(BRANCHES, hidden)
        self.prior = nn.Linear(BRANCHES, 1)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, logits: Tensor, present: Tensor) -> tuple[Tensor]:
        # Beyond +-8 (1 in 3000) a branch has no more to say: no one branch can drown the others.
        known = logits.clamp(-8, 8) * present
        inner = torch.tanh((known @ functional.softplus(self.evidence).T + self.mask(present)) / 4)
        answer = (
            (inner * functional.softplus(self.out)).sum(1)
            + known @ functional.softplus(self.straight)
            + self.prior(present)[:, 0]
        )
        return (answer / self.temperature,)

    def example(self, batch: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, BRANCHES), torch.ones(batch, BRANCHES)
