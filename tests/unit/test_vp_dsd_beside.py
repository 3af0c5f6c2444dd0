"""VP-DSD beside what the paper leaves open: representation learning, how claims and controls select their runs."""

import pandas
import pytest
import torch

from papers.vp_dsd.learning.adversarial import beside_a_generator
from papers.vp_dsd.learning.feature_label import flm_loss
from papers.vp_dsd.learning.rivals import method_of
from papers.vp_dsd.loss import LOSSES, vp_loss
from papers.vp_dsd.names import is_varied
from shared.comparison.claims import read_claims
from shared.comparison.evidence import samples
from shared.config import plan, read_config, repository
from shared.methods import Batch, kl_loss
from shared.networks import MLP
from tests.conftest import of_any_text
from tests.unit.test_vp_dsd_rivals import cells, network_of, spec_of

CPU = torch.device("cpu")
OFFSETS = torch.tensor([0, 5, 12])


def batch():
    torch.manual_seed(3)
    return Batch(torch.randn(12, 4), OFFSETS, torch.tensor([[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]]))


def test_the_vp_loss_takes_the_place_of_kl_in_llp_gan():
    spec, loss = spec_of("vp_ce", representation="gan"), LOSSES["vp_ce"]
    torch.manual_seed(0)
    network = MLP(4, 8, 3)
    log_p = network(batch().x).log_softmax(1)
    expected = vp_loss(log_p, OFFSETS, batch().proportions).detach()
    method = beside_a_generator(spec, network, torch.optim.Adam(network.parameters(), 0.01), loss, 4)
    found = method.update(batch())
    torch.testing.assert_close(found["proportion_loss"], expected)
    torch.testing.assert_close(found["loss"], found["adversarial_loss"] + spec.gan_weight * expected)


@pytest.mark.parametrize(("loss", "representation"), [("vp_ce", "gan"), ("kl", "gan"), ("vp_ce", "flm")])
def test_a_spec_of_both_learns(loss, representation):
    inputs, bags, labels = cells()
    spec = spec_of(loss, representation=representation)
    network = network_of(spec, 3, 3, CPU)
    method, bags, more = method_of(spec, network, inputs, bags, labels)
    shares = torch.from_numpy(bags.proportions).float()
    first = Batch(inputs.batch(bags.indices), torch.from_numpy(bags.offsets), shares)
    losses = [float(method.update(first)["loss"]) for _ in range(30)]
    assert losses[-1] < losses[0] and more == {"bags_per_batch": spec.bags_per_batch}


def test_feature_label_matching_takes_another_loss():
    log_p, y = batch().x[:, :3].log_softmax(1), batch().proportions
    plain = flm_loss(log_p, OFFSETS, y)
    other = flm_loss(log_p, OFFSETS, y, level=vp_loss)
    difference = (vp_loss(log_p, OFFSETS, y) - kl_loss(log_p, OFFSETS, y)) / 3
    torch.testing.assert_close(other - plain, difference)


def test_an_unknown_representation_is_refused():
    inputs, bags, labels = cells()
    spec = of_any_text(spec_of("kl")).but(representation="contrastive")
    with pytest.raises(ValueError, match="representation 'contrastive' is none of none, gan, flm"):
        method_of(spec, network_of(spec, 3, 3, CPU), inputs, bags, labels)


@pytest.mark.parametrize("tier", [tier for tier in read_config("vp_dsd").tiers if tier != "smoke"])
def test_no_claim_mixes_two_runs_of_a_seed(tier):
    """With controls at other rates beside the rivals, a side that selects by loss could meet both."""
    rows = []
    for run in plan("vp_dsd", tier):
        spec = {k: v for k, v in run.spec.values().items() if isinstance(v, str | int | float)}
        rows.append({**spec, "id": run.id, "method": run.method, "tier": tier, "selection": "last"})
    rows = pandas.DataFrame(rows)
    for claim in read_claims(repository() / "papers/vp_dsd/claims.yaml"):
        measures = {(s.get("metric", claim.metric), s.get("selection", claim.selection)) for s in claim.sides}
        own = [rows.assign(metric=m, selection=s, value=1.0 + rows.index) for m, s in measures]
        samples(pandas.concat(own, ignore_index=True), claim)


def test_controls_are_told_from_rivals():
    methods = {run.method for run in plan("vp_dsd", "quick")}
    varied = {method for method in methods if is_varied(method)}
    assert {"kl-learning_rate0.003", "vp_ce-noise0.2-spread2.2"} <= varied
    assert not varied & {"kl", "kl-epochs5", "plot-epsilon1", "vp_ce-gan", "vp_ce-pretrain_epochs0"}


def test_compact_and_unread_rivals_say_so():
    """A contradiction by our PC or CSC is no contradiction by the authors'."""
    for tier in read_config("vp_dsd").tiers:
        for run in plan("vp_dsd", tier):
            if run.method in ("pc", "csc", "heatmap-c_fcrn-kl"):
                assert run.stand_in or tier == "smoke", (tier, run.id)
