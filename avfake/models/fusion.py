"""The fusion head: three calibrated log-odds and which of them are there -> one log-odds."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

BRANCHES = 3


class FusionNet(nn.Module):
    """A noisy-or (Pearl 1988): a clip is fake if its picture is, or its voice, or their match.

    Inputs: `logits` float32 [N, 3], calibrated log-odds of visual, audio and lip-sync (any finite
    value where absent); `present` float32 [N, 3], 1 where the branch answered and 0 where not.
    Output: `logit` float32 [N].

    Each branch that is there adds a rate of fakery, softplus(weight * log-odds + shift), and what
    is not seen adds a leak; shifts and leak depend on which branches are there, for the fewer they
    are, the likelier it is that a fake is any one's. The clip is real if nothing fires:
    P(fake) = 1 - exp(-sum of rates). So more evidence of a fake in any branch never lowers
    the answer, and lips that fit the sound are no alibi for the face. `temperature` divides the
    answer's log-odds (Guo et al. 2017) and is fitted after training.
    """

    INPUTS = ("logits", "present")
    OUTPUTS = ("logit",)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(BRANCHES))  # through softplus: never negative
        self.shift = nn.Linear(BRANCHES, BRANCHES)
        nn.init.zeros_(self.shift.weight)
        nn.init.zeros_(self.shift.bias)
        self.leak = nn.Linear(BRANCHES, 1)
        nn.init.zeros_(self.leak.weight)
        nn.init.constant_(self.leak.bias, -2.0)
        self.register_buffer("temperature", torch.ones(()))

    def forward(self, logits: Tensor, present: Tensor) -> tuple[Tensor]:
        # Beyond +-8 (1 in 3000) a branch has no more to say: no one branch can drown the others.
        known = logits.clamp(-8, 8) * present
        rates = functional.softplus(functional.softplus(self.weight) * known + self.shift(present))
        rate = (rates * present).sum(1) + functional.softplus(self.leak(present)[:, 0])
        # log(P / (1 - P)) for P = 1 - exp(-rate), without overflow.
        answer = rate + torch.log(-torch.expm1(-rate.clamp(min=1e-6)))
        return (answer / self.temperature,)

    def example(self, batch: int) -> tuple[Tensor, Tensor]:
        return torch.randn(batch, BRANCHES), torch.ones(batch, BRANCHES)
