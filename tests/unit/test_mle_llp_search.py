"""What a run of Barucic & Kybic 2022 rests on besides its own training: the search for a rate, and the repetitions of a
band. Wrong here, and a rate is chosen by labels or test bags, or a band is of other runs than Figure 1's.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.mle_llp import search, task_learning
from papers.mle_llp.data import bags_of, data_of
from papers.mle_llp.task_learning import OF_TWO
from papers.mle_llp.train import train
from shared.config import plan
from tests.unit.test_mle_llp_training import OF_ONE_LOSS, SETTINGS, spec_of

CPU = torch.device("cpu")
SEARCH = {"choose_rate": True, "rates": [0.003, 0.03, 0.00001], "search_epochs": 2, "search_instances": 60}


class TestSearch:
    """Section 3's grid search: on bags that were held out, of a split that no repetition has."""

    def searched(self, loss="mle_llp", **more):
        own = {key: value for key, value in SETTINGS.items() if key != "learning_rate"}
        run = next(run for run in plan("mle_llp", "smoke") if run.method == f"{loss}-choose_rateTrue")
        return run.spec.but(**own | OF_ONE_LOSS.get(loss, {}) | SEARCH | {"search_seed": 100} | more)

    def test_the_least_loss_on_held_out_bags_wins_and_all_are_recorded(self, data_root):
        result = train(self.searched(), device="cpu")
        rates, losses = result.curves["searched_rate"], result.curves["searched_loss"]
        assert rates == SEARCH["rates"] and len(set(losses)) == 3
        assert result.metrics["last"]["learning_rate"] == rates[int(np.argmin(losses))]
        plain = train(spec_of("mle_llp", learning_rate=result.metrics["last"]["learning_rate"]), device="cpu")
        assert plain.curves.items() <= result.curves.items()

    def test_it_is_made_once_for_all_seeds_and_reads_neither_labels_nor_test_bags(
        self, data_root, tmp_path, monkeypatch
    ):
        asked = []

        def noted(stage, data, rate, session):
            asked.append(rate)
            return held_out_loss(stage, data, rate, session)

        held_out_loss = search.held_out_loss
        monkeypatch.setattr(search, "held_out_loss", noted)
        found = []
        for seed in (0, 1):
            session = {"key": f"{seed}-code", "checkpoint": tmp_path / ".work" / f"{seed}.pt"}
            found.append(train(self.searched(seed=seed, epochs=1), device="cpu", **session))
        assert asked == SEARCH["rates"]
        assert found[0].curves["searched_loss"] == found[1].curves["searched_loss"]
        stage = self.searched().stage("search")
        data = data_of(stage.dataset, stage.classes, stage.network, False, CPU)
        train_bags, held_out, test = bags_of(stage, data, stage.search_seed, stage.search_instances)
        other = data.labels.copy()
        other[np.setdiff1d(np.arange(len(other)), np.concatenate([train_bags.indices, held_out.indices]))] = 0
        monkeypatch.setattr(search, "held_out_loss", held_out_loss)
        assert len(test) and not set(test.indices) & set(held_out.indices)
        losses = [held_out_loss(stage, replace(data, labels=labels), 0.003, {}) for labels in (data.labels, other)]
        assert losses[0] == losses[1] == found[0].curves["searched_loss"][0]

    def test_a_rate_at_which_training_diverges_is_recorded_as_none_and_not_taken(self, data_root):
        result = train(self.searched("llp_gan", rates=[1e30, 0.003]), device="cpu")
        assert result.curves["searched_loss"][0] is None and result.metrics["last"]["learning_rate"] == 0.003
        json.dumps(result.curves, allow_nan=False)


class TestBand:
    """The spread over repetitions: of two, 2 s and 2 s + 1, mean over epochs."""

    def spec(self, **more):
        run = next(run for run in plan("mle_llp", "smoke") if run.method == "dllp-band")
        own = {"pool": "all", "bags": 0, "validation_instances": 0, "epochs": 3, "seed": 1}
        return run.spec.but(**SETTINGS | own | more)

    def one(self, seed):
        return self.spec().but(task="learning", seed=seed)

    def test_it_is_the_distance_of_the_two_curves_as_a_standard_deviation(self, data_root):
        result = train(self.spec(), device="cpu")
        curves = [np.array(train(self.one(seed), device="cpu").curves["test_accuracy"]) for seed in (2, 3)]
        apart = np.sqrt(np.pi) / 2 * np.abs(curves[0] - curves[1])
        assert result.metrics["last"]["spread"] == pytest.approx(apart.mean()) and apart.mean() > 0
        assert result.metrics["last"]["late_spread"] == pytest.approx(apart[1:].mean())
        assert result.curves["spread"] == pytest.approx(apart.tolist())
        assert {"train of seed 2", "test of seed 3"} <= set(result.bags)

    def test_the_mean_distance_of_two_normal_draws_gives_back_their_deviation(self):
        draws = np.random.default_rng(0).normal(0, 3.0, (2, 200_000))
        assert OF_TWO * np.abs(draws[0] - draws[1]).mean() == pytest.approx(3.0, rel=0.01)

    def test_it_reads_the_curves_that_figure_1_left_and_trains_what_is_missing(self, data_root, tmp_path, monkeypatch):
        def session(name):
            return {"key": f"{name}-code", "checkpoint": tmp_path / ".work" / f"{name}.pt"}

        fresh = train(self.spec(), device="cpu")
        train(self.one(2), device="cpu", **session("two"))
        trained, fit_ = [], task_learning.fit
        monkeypatch.setattr(task_learning, "fit", lambda *a, **k: trained.append(k["seed"]) or fit_(*a, **k))
        found = train(self.spec(), device="cpu", **session("band"))
        assert trained == [3] and (found.metrics, found.curves, found.bags) == (fresh.metrics, fresh.curves, fresh.bags)
        train(self.spec(), device="cpu", **session("again"))
        assert trained == [3]
        train(self.spec(), device="cpu", **{**session("again"), "key": "again-othercode"})
        assert trained == [3, 2, 3]

    def test_a_run_that_stopped_keeps_its_last_accuracy(self, data_root):
        run = next(run for run in plan("mle_llp", "smoke") if run.method == "mle_llp-band")
        own = {"pool": "all", "bags": 0, "validation_instances": 0, "epochs": 3, "stop_change": 9.0}
        result = train(run.spec.but(**SETTINGS | own), device="cpu")
        assert len(set(result.curves["spread"])) == 1 and len(result.curves["spread"]) == 3


class TestSplitAndRate:
    """All bags split 80 to 20, and what the rate is multiplied with."""

    def test_without_held_out_bags_no_epoch_is_chosen_by_them(self, data_root):
        result = train(spec_of("dllp", pool="all", bags=0, validation_instances=0, epochs=2), device="cpu")
        assert set(result.metrics) == {"last", "oracle"} and set(result.bags) == {"train", "test"}
        assert "validation_loss" not in result.curves
        assert result.bags["test"]["bags"] == round((result.bags["test"]["bags"] + result.bags["train"]["bags"]) / 5)

    def test_the_time_to_99_percent_is_its_part_of_the_time_of_training(self, data_root):
        result = train(spec_of("dllp", epochs=5), device="cpu")
        share = result.metrics["last"]["epochs_to_99"] / 5
        assert result.cost["to_99_s"] == pytest.approx(share * result.cost["train_s"], abs=1e-3)

    def test_thrice_the_rate_is_that_rate(self, data_root):
        thrice, plain = (
            train(spec_of("dllp", **more), device="cpu").curves
            for more in ({"rate_times": 3, "learning_rate": 0.001}, {"learning_rate": 3 * 0.001})
        )
        assert thrice == plain
