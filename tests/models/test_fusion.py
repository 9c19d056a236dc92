"""The fusion head: more evidence never lowers the answer, and what is absent says nothing."""

from __future__ import annotations

import itertools

import pytest

torch = pytest.importorskip("torch")

from avfake.models.fusion import BRANCHES, FusionNet  # noqa: E402

PATTERNS = [p for p in itertools.product([0.0, 1.0], repeat=BRANCHES) if any(p)]


@pytest.fixture(params=range(3))
def net(request: pytest.FixtureRequest) -> FusionNet:
    """Any weights that a training could reach."""
    torch.manual_seed(request.param)
    net = FusionNet()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=1.5)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("pattern", PATTERNS)
def test_more_evidence_in_any_branch_never_lowers_the_answer(
    net: FusionNet, pattern: tuple[float, ...]
) -> None:
    present = torch.tensor(pattern).expand(41, -1)
    for branch in range(BRANCHES):
        logits = torch.randn(BRANCHES).repeat(41, 1)
        logits[:, branch] = torch.linspace(-10, 10, 41)
        (answer,) = net(logits, present)
        steps = answer.diff()
        assert torch.isfinite(answer).all()
        assert (steps >= -1e-5).all()
        # What is not there has no say; what is there has one.
        assert bool((steps.abs() > 1e-5).any()) == bool(pattern[branch])


@torch.no_grad()
def test_what_a_branch_is_worth_depends_on_which_others_are_there() -> None:
    """A lone branch may be taken at its word, though among three it must share the blame."""
    net = FusionNet()
    net.shift.weight.copy_(-torch.ones(BRANCHES, BRANCHES) + torch.eye(BRANCHES))
    net.leak.bias.fill_(-20.0)
    logits = torch.tensor([[1.5, 0.0, 0.0]])
    (alone,) = net(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    net.weight[:] = torch.log(torch.expm1(torch.ones(())))  # factors of 1
    (taken,) = net(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    ((first, *_),) = net(logits, torch.ones(1, BRANCHES))
    assert taken.item() == pytest.approx(1.5, abs=1e-4)
    assert alone.item() < taken.item()
    two = torch.nn.functional.softplus(torch.tensor([1.5 - 2, -2.0, -2.0])).sum()
    assert first.item() == pytest.approx(torch.log(torch.expm1(two)).item(), abs=1e-4)
