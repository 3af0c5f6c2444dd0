"""Pinned numbers of ROT: losses on fixed predictions, and the first epochs of training by each loss.

A change here means that every record is of another experiment; change the pins only together with the records.
"""

import itertools

import pytest
import torch

from papers.rot.loss import avgkl_loss, relax_lp_loss, rot_loss
from papers.rot.train import train
from shared.bags import segment_sum
from shared.config import find
from shared.methods import kl_loss

LOSSES = {
    "kl": (kl_loss, 1.6942508613319245),
    "avgkl": (avgkl_loss, 2.6594272189983528),
    "equation 5": (relax_lp_loss, 1.6638260135452994),
    "rot": (lambda *bags: rot_loss(*bags, alpha=0.5), 0.6391717453759779),
}
CURVES = {
    "kl": [2.273974, 1.85262, 1.543427],
    "avgkl": [2.295166, 2.211759, 2.187781],
    "rot": [1.076012, 0.686034, 0.368],
}
TRIED = {
    "kl": [2.316344, 2.318328],
    "rot": [2.317403, 2.323894, 2.324106, 2.361044],
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_on_fixed_predictions(name):
    loss, value = LOSSES[name]
    rng = torch.Generator().manual_seed(5)
    offsets = torch.tensor([0, *itertools.accumulate([4, 2, 8])])
    log_p = (2 * torch.randn(14, 4, generator=rng, dtype=torch.float64)).log_softmax(1)
    one_hot = torch.nn.functional.one_hot(torch.randint(4, (14,), generator=rng), 4).double()
    z = segment_sum(one_hot, offsets) / offsets.diff()[:, None]
    assert loss(log_p, offsets, z).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("name", CURVES)
def test_the_first_epochs_of_a_smoke_run(name, data_root):
    """Bags, initialisation, order and schedule together: the training loss of each epoch, to four digits."""
    run = find("rot", "smoke", f"digits/{name}/bag4/seed0")
    curves = train(run.spec, device="cpu").curves
    assert curves["train_loss"] == pytest.approx(CURVES[name], rel=2e-4)


@pytest.mark.parametrize("name", TRIED)
def test_the_scores_of_candidates_in_a_smoke_run(name, data_root):
    """The loss on held-out bags after a short run of each rate and alpha, to four digits."""
    run = find("rot", "smoke", f"digits/{name}-rate+alpha/bag16/seed0")
    tried = train(run.spec.but(epochs=1), device="cpu").curves["tried_score"]
    assert tried == pytest.approx(TRIED[name], rel=2e-4)
