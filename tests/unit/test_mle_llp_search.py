"""What a run of Barucic & Kybic 2022 rests on besides its own training: the search for a rate, and the split of Figure
1. Wrong here, and a rate is chosen by labels or test bags, or is the end of a grid and nobody knows.
"""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.mle_llp import search
from papers.mle_llp.data import bags_of, data_of
from papers.mle_llp.train import train
from shared.config import plan
from tests.unit.test_mle_llp_training import OF_ONE_LOSS, SETTINGS, spec_of

CPU = torch.device("cpu")
SEARCH = {"choose_rate": True, "rates": [0.003, 0.3, 30.0], "search_epochs": 2, "search_instances": 60}


class TestSearch:
    """Section 3's grid search: on bags that were held out, of a split that no repetition has."""

    def searched(self, loss="mle_llp", **more):
        own = {key: value for key, value in SETTINGS.items() if key != "learning_rate"}
        run = next(run for run in plan("mle_llp", "smoke") if run.method == f"{loss}-choose_rateTrue")
        return run.spec.but(**own | OF_ONE_LOSS.get(loss, {}) | SEARCH | {"search_seed": 100} | more)

    def test_the_least_loss_on_held_out_bags_wins_and_all_are_recorded(self, data_root):
        result = train(self.searched(), device="cpu")
        rates, losses = result.curves["tried_learning_rate"], result.curves["tried_score"]
        assert rates == SEARCH["rates"] and len(set(losses)) == 3
        last = result.metrics["last"]
        assert last["chosen_learning_rate"] == rates[int(np.argmin(losses))] and last["chosen_learning_rate_end"] == 0
        plain = train(spec_of("mle_llp", learning_rate=last["chosen_learning_rate"]), device="cpu")
        assert plain.curves.items() <= result.curves.items()

    def test_a_grid_whose_winner_is_its_end_is_extended_and_says_where_it_ended(self, data_root):
        result = train(self.searched(rates=[0.00001, 0.00002], epochs=1), device="cpu")
        assert result.curves["tried_learning_rate"] == [0.00001, 0.00002, 0.00004, 0.00008, 0.00016]
        assert np.diff(result.curves["tried_score"]).max() < 0
        last = result.metrics["last"]
        assert (last["chosen_learning_rate"], last["chosen_learning_rate_end"]) == (0.00016, 1)

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
        assert found[0].curves["tried_score"] == found[1].curves["tried_score"]
        stage = self.searched().stage("search")
        data = data_of(stage.dataset, stage.classes, stage.network, False, CPU)
        train_bags, held_out, test = bags_of(stage, data, stage.search_seed, stage.search_instances)
        other = data.labels.copy()
        other[np.setdiff1d(np.arange(len(other)), np.concatenate([train_bags.indices, held_out.indices]))] = 0
        monkeypatch.setattr(search, "held_out_loss", held_out_loss)
        assert len(test) and not set(test.indices) & set(held_out.indices)
        losses = [held_out_loss(stage, replace(data, labels=labels), 0.003, {}) for labels in (data.labels, other)]
        assert losses[0] == losses[1] == found[0].curves["tried_score"][0]

    def test_a_rate_at_which_training_diverges_is_recorded_as_none_and_not_taken(self, data_root):
        result = train(self.searched("llp_gan", rates=[1e30, 0.003, 0.0001]), device="cpu")
        rates, losses = result.curves["tried_learning_rate"], result.curves["tried_score"]
        assert losses[0] is None and None not in losses[1:]
        assert result.metrics["last"]["chosen_learning_rate"] == rates[1 + int(np.argmin(losses[1:]))]
        json.dumps(result.curves, allow_nan=False)


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
