"""The choice of rate and alpha on held-out bags: what is tried, what is shared, and a run that has what was chosen."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from papers.rot import tables, tuning
from papers.rot import train as rot
from papers.rot.data import bags_of, data_of, selection_bags_of
from shared.config import find, plan
from shared.records import store
from shared.runs.assemble import record_of
from shared.tables.evidence import gather

CPU = torch.device("cpu")
KL, ROT = "digits/kl-rate+alpha/bag16/seed0", "digits/rot-rate+alpha/bag16/seed0"


def spec_of(run_id=ROT, **changes):
    return find("rot", "smoke", run_id).spec.but(**{"epochs": 1, **changes})


@pytest.fixture
def trained(monkeypatch):
    """What is trained, as (stage or whole, values, seed, epochs); each in earnest."""
    seen, fitted = [], rot.fitted

    def noted(spec, values, *arguments, **named):
        seen.append(("short" if "seed" not in spec else "whole", dict(values), named["seed"], named["epochs"]))
        return fitted(spec, values, *arguments, **named)

    def short():
        return [values for kind, values, *_ in seen if kind == "short"]

    monkeypatch.setattr(rot, "fitted", noted)
    noted.seen, noted.short = seen, short
    return noted


@pytest.fixture
def session(tmp_path):
    """The session of a run; another run has another name and another spec, and the same code."""
    return lambda name="a": {"checkpoint": tmp_path / ".work" / "smoke" / f"{name}.pt", "key": f"{name}-code"}


def test_the_paper_tier_tries_the_grids_of_section_4_1():
    rates, alphas = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3), (0.1, 0.3, 0.5, 0.7, 0.9)
    kl, every, given = (
        tuning.candidates(find("rot", "paper", f"cifar10/{method}/bag16/seed0").spec)
        for method in ("kl", "rot", "rot-alpha0.7")
    )
    assert kl == [{"learning_rate": rate} for rate in rates]
    assert given == [{"learning_rate": rate, "alpha": 0.7} for rate in rates]
    assert every == [{"learning_rate": rate, "alpha": alpha} for alpha in alphas for rate in rates]


def test_the_paper_tier_shows_every_alpha_at_every_size_on_both_sets():
    swept = [run for run in plan("rot", "paper") if run.method.startswith(tables.ALPHA)]
    assert {run.method for run in swept} == {f"rot-alpha{alpha}" for alpha in (0.1, 0.3, 0.5, 0.7, 0.9)}
    cells = {(run.spec.dataset, run.spec.bag_size, run.spec.alpha) for run in swept}
    assert len(cells) == 2 * 11 * 5 and all("divide_by_alpha" in run.spec for run in swept)
    assert not any(run.spec.divide_by_alpha for run in plan("rot", "paper") if run.method.startswith("rot"))


def test_each_candidate_is_scored_once_and_the_least_is_trained_at_length(data_root, trained):
    spec = spec_of(seed=3)
    result = rot.train(spec, device="cpu")
    *short, whole = trained.seen
    assert [(kind, seed, epochs) for kind, _, seed, epochs in short] == [("short", 1000, 1)] * 4
    assert [values for _, values, *_ in short] == tuning.candidates(spec)
    scores, last = result.curves["tried_score"], result.metrics["last"]
    best = tuning.candidates(spec)[int(np.argmin(scores))]
    assert whole == ("whole", best, 3, 1)
    assert best == {"learning_rate": last["chosen_learning_rate"], "alpha": last["chosen_alpha"]}
    assert result.curves["tried_alpha"] == [0.3, 0.3, 0.9, 0.9] and len(set(scores)) > 1
    assert (last["chosen_learning_rate_end"], last["chosen_alpha_end"]) == (
        {0.03: -1, 0.1: 1}[best["learning_rate"]],
        {0.3: -1, 0.9: 1}[best["alpha"]],
    )
    assert result.cost["selection_s"] > 0


@pytest.mark.parametrize("run_id", [KL, ROT, "digits/rot-alpha0.3/bag16/seed0"])
def test_a_run_with_what_was_chosen_is_the_same_run(run_id, data_root):
    spec = spec_of(run_id, epochs=2)
    chosen = rot.train(spec, device="cpu")
    last = chosen.metrics["last"]
    values = {key: last[f"chosen_{key}"] for key in ("learning_rate", "alpha") if f"chosen_{key}" in last}
    plain = rot.train(spec.but(tuning="none", **values), device="cpu")
    assert {key: chosen.curves[key] for key in plain.curves} == plain.curves
    assert chosen.metrics["oracle"] == plain.metrics["oracle"] and chosen.bags == plain.bags


def test_seeds_the_sweep_and_the_permuted_control_share_the_scores(data_root, trained, session):
    rot.train(spec_of(), device="cpu", **session("a"))
    assert len(trained.short()) == 4
    rot.train(spec_of(seed=1), device="cpu", **session("b"))
    rot.train(spec_of(tuning="rate", alpha=0.9), device="cpu", **session("c"))
    rot.train(spec_of(proportions="permuted"), device="cpu", **session("d"))
    rot.train(spec_of(validation_fraction=0.1, epochs=2), device="cpu", **session("e"))
    assert len(trained.short()) == 4 and len(trained.seen) == 4 + 5
    # Another alpha than the grid's is scored, and that alone; so is each that another weight decay asks for.
    rot.train(spec_of(tuning="rate", alpha=0.5), device="cpu", **session("f"))
    assert trained.short()[4:] == [{"learning_rate": rate, "alpha": 0.5} for rate in (0.03, 0.1)]
    rot.train(spec_of(weight_decay=0.005), device="cpu", **session("g"))
    assert len(trained.short()) == 6 + 4


def test_in_the_sweep_the_rate_is_the_best_of_its_alpha_by_the_same_scores(data_root, session):
    every = rot.train(spec_of(), device="cpu", **session("a"))
    rows = list(zip(*(every.curves[f"tried_{key}"] for key in ("alpha", "score", "learning_rate")), strict=True))
    for alpha in (0.3, 0.9):
        given = rot.train(spec_of(tuning="rate", alpha=alpha), device="cpu", **session(f"{alpha}"))
        own = [row for row in rows if row[0] == alpha]
        assert given.curves["tried_score"] == [score for _, score, _ in own]
        assert given.metrics["last"]["chosen_learning_rate"] == min(own)[2]
        assert given.metrics["last"]["chosen_alpha"] == alpha


def test_a_choice_that_was_stopped_goes_on_to_the_same_run(data_root, monkeypatch, session):
    spec, fitted, left = spec_of(), rot.fitted, [None]
    straight = rot.train(spec, device="cpu")

    def stops(*arguments, **named):
        left[0] -= 1
        return fitted(*arguments, **named) if left[0] >= 0 else None

    monkeypatch.setattr(rot, "fitted", stops)
    result, calls = None, 0
    while result is None:
        calls, left[0] = calls + 1, 1
        result = rot.train(spec, device="cpu", **session())
    assert calls == 5 and result.curves == straight.curves and result.metrics == straight.metrics


def test_the_choice_sees_no_image_of_the_test_set_and_holds_bags_out(data_root):
    spec = spec_of()
    data = data_of(spec, CPU)
    blind = replace(data, test=None, y_test=None)
    found, again = (tuning.chosen(spec, d, rot.fitted, {}) for d in (data, blind))
    assert found == again
    bags, held_out = selection_bags_of(spec.stage("selection"), data.y_train, data.n_classes)
    assert len(held_out) == round(0.2 * (len(bags) + len(held_out))) and not set(bags.indices) & set(held_out.indices)
    assert bags.sha256() != bags_of(spec, data.y_train, data.n_classes)[0].sha256()


def test_a_rate_at_which_training_diverges_is_not_chosen_and_can_be_recorded(data_root, tmp_path):
    run = replace(find("rot", "smoke", KL), spec=spec_of(KL, learning_rates=[1e30, 0.1]))
    result = rot.train(run.spec, device="cpu")
    assert result.metrics["last"]["chosen_learning_rate"] == 0.1
    assert result.curves["tried_score"][0] is None and math.isfinite(result.curves["tried_score"][1])
    store.write_record(tmp_path, record_of(run, "code", 1.0, result))


def test_the_table_tells_what_was_tried_and_what_was_chosen(data_root, tmp_path):
    for run_id in (KL, ROT):
        run = find("rot", "smoke", run_id)
        store.write_record(tmp_path / "smoke/rot/runs", record_of(run, "code", 1.0, rot.train(run.spec, device="cpu")))
    table = tables.selection(gather("rot", "smoke", tmp_path))
    assert table.numbers.groupby("method", sort=False).chosen.agg(["size", "sum"]).to_dict("list") == {
        "size": [2, 4],
        "sum": [1, 1],
    }
    best = table.numbers[table.numbers.chosen]
    assert (best.score == table.numbers.groupby("method", sort=False).score.min().to_numpy()).all()
    assert list(table.text.method) == ["kl-rate+alpha", "rot-rate+alpha", "rot-alpha0.3"]
    assert list(table.text.tried) == [2, 4, ""] and table.text.learning_rate.iloc[-1] == "NOT RUN"
    ends = table.text["at the end of its grid"]
    assert re.fullmatch("(least|greatest) learning_rate", ends.iloc[0]) and "alpha" in ends.iloc[1]
    assert table.text.next.iloc[0].endswith(f"({(set(best.learning_rate[:1]) ^ {0.03, 0.1}).pop():g})")


def test_the_shift_of_batch_normalisation_is_learned_where_the_spec_says_so(data_root):
    spec = find("rot", "gpu", "cifar10/kl-scale+shift/bag16/seed0").spec.but(dataset="simulated_images", width=4)
    inputs = data_of(spec, CPU).train
    more, fewer = (
        sum(p.requires_grad for p in rot.network_of(s, inputs, 10).parameters())
        for s in (spec, spec.but(normalisation="scale"))
    )
    assert more == fewer + 20
