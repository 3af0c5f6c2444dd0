"""What surrounds the training of Barucic & Kybic 2022: bags, plan, timings, oracles. Wrong here, and test instances are
trained on, a control teaches, one method's setting makes another's records anew, or a check passes whatever it sees.
"""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from papers.mle_llp import checks, task_timing
from papers.mle_llp.data import Data, bags_of, data_of
from papers.mle_llp.enumeration import enumerated_posterior, one_bag_posterior
from papers.mle_llp.loss import counts_of
from papers.mle_llp.names import SIZES, TIMED
from papers.mle_llp.train import train
from shared import datasets
from shared.config import plan
from shared.training import Inputs

CPU = torch.device("cpu")
TRAINED = ("supervised", "dllp", "llp_gan", "mle_llp", "mle_direct")
SMOKE = plan("mle_llp", "smoke")
PAPERS_DATA = ("cifar10", "images_of_groups")


def drawn(spec, data):
    """(training, validation, test) bags of a run."""
    return bags_of(spec, data, spec.seed, spec.validation_instances)


def spec_of(**more):
    """A spec of made bags, whatever the smoke tier's own numbers are."""
    own = {"bags": 30, "smallest": 2, "largest": 12, "test_bags": 20, "validation_instances": 40, "counts": "given"}
    own["pool"] = "official"
    return next(run.spec for run in SMOKE if run.method == "mle_llp").but(**{**own, "seed": 0, **more})


def spec_of_photos(**more):
    """A spec of natural bags, whose sizes are no value of it."""
    own = {"dataset": "images_of_groups", "pool": "all", "validation_instances": 40, "seed": 0, "counts": "given"}
    return next(run.spec for run in SMOKE if run.method == "mle_llp").but(**{**own, **more})


def made(n=900, n_train=600, groups=None, seed=0):
    """Instances that are their own numbers, of two classes."""
    labels = np.random.default_rng(seed).integers(0, 2, n)
    return Data(Inputs(np.arange(n, dtype=np.float32)[:, None], CPU), labels, n_train, groups, ("a", "b"), {})


def same(one, other):
    pairs = ((one.indices, other.indices), (one.offsets, other.offsets), (one.proportions, other.proportions))
    return all(np.array_equal(a, b) for a, b in pairs)


class TestBags:
    """Training, validation and test bags, drawn from the spec alone."""

    @pytest.mark.parametrize("bags", [0, 30])
    def test_no_instance_is_in_two_bags_and_test_bags_are_of_the_test_half(self, bags):
        train, validation, test = drawn(spec_of(bags=bags), made())
        everything = np.concatenate([part.indices for part in (train, validation, test)])
        assert len(set(everything.tolist())) == len(everything)
        assert (
            max(train.indices.max(), validation.indices.max()) < 600 <= test.indices.min() and test.indices.max() < 900
        )
        assert len(test) == 20 and abs(len(validation.indices) - 40) < 12
        assert len(train) == 30 if bags else len(train.indices) + len(validation.indices) > 580

    def test_without_a_number_all_test_instances_are_used(self):
        assert len(drawn(spec_of(test_bags=0), made())[2].indices) > 280

    def test_proportions_are_those_of_the_labels(self):
        data = made()
        for bags in drawn(spec_of(), data):
            positives = np.add.reduceat(data.labels[bags.indices], bags.offsets[:-1])
            np.testing.assert_allclose(bags.proportions[:, 1], positives / bags.sizes)

    @pytest.mark.parametrize(("smallest", "largest"), [(2, 12), (5, 6), (3, 3)])
    def test_sizes_are_all_of_those_asked_for_and_test_bags_are_always_the_papers(self, smallest, largest):
        data = made(6000, 4000)
        train, validation, test = drawn(spec_of(smallest=smallest, largest=largest, bags=0, test_bags=0), data)
        assert set(train.sizes) == set(range(smallest, largest + 1)) and set(test.sizes) == set(range(2, 13))
        share = np.bincount(train.sizes)[smallest:] * (largest - smallest + 1) / len(train)
        assert 0.5 < share.min() and share.max() < 1.6
        assert set(validation.sizes) <= set(train.sizes)

    def test_fewer_bags_of_one_seed_are_a_part_of_more(self):
        """Else Figure 3 would compare numbers of bags and draws at once."""
        few, more = (drawn(spec_of(bags=n), made()) for n in (10, 25))
        assert same(few[0], more[0].take(np.arange(10)))
        assert same(few[1], more[1]) and same(few[2], more[2])

    @pytest.mark.parametrize("groups", [None, np.arange(900) // 3])
    def test_equal_seeds_draw_equal_bags_and_others_do_not(self, groups):
        spec = spec_of() if groups is None else spec_of_photos(bags=30, test_bags=20)
        first, again, other = (drawn(spec.but(seed=seed), made(groups=groups)) for seed in (0, 0, 1))
        assert all(map(same, first, again))
        assert not any(map(same, first, other))

    def test_permuted_counts_are_those_of_other_bags_of_the_same_size(self):
        (true, *held_out), (permuted, *also) = (
            drawn(spec_of(bags=70, counts=c), made()) for c in ("given", "permuted")
        )
        assert all(map(same, held_out, also))
        assert np.array_equal(true.indices, permuted.indices) and np.array_equal(true.offsets, permuted.offsets)
        before, after = (
            counts_of(torch.from_numpy(b.proportions), torch.from_numpy(b.offsets)) for b in (true, permuted)
        )
        moved = (before != after).any(1).float().mean()
        assert 0.4 < moved
        for size in np.unique(true.sizes):
            of_size = torch.from_numpy(true.sizes == size)
            assert sorted(before[of_size].tolist()) == sorted(after[of_size].tolist())

    def test_more_bags_than_there_are_is_refused_with_the_numbers(self):
        there = len(drawn(spec_of(bags=0), made())[0])
        held = len(drawn(spec_of(bags=0), made())[1])
        with pytest.raises(ValueError, match=rf"{there + 1} training and {held} validation .*there are {there + held}"):
            drawn(spec_of(bags=there + 1), made())
        assert len(drawn(spec_of(bags=there), made())[0]) == there


class TestSplit:
    """Section 3: all bags, split 80 to 20 anew in every repetition; or so many for testing."""

    def test_all_instances_make_bags_and_a_fifth_of_the_bags_are_for_testing(self):
        data = made()
        train, validation, test = drawn(spec_of(pool="all", bags=0, test_bags=0, validation_instances=0), data)
        seen = np.concatenate([train.indices, test.indices])
        assert not len(validation) and len(set(seen.tolist())) == len(seen) > 880
        assert len(test) == round((len(train) + len(test)) / 5)
        for part in (train, test):
            assert part.indices.min() < data.n_train <= part.indices.max()
            positives = np.add.reduceat(data.labels[part.indices], part.offsets[:-1])
            np.testing.assert_allclose(part.proportions[:, 1], positives / part.sizes)

    def test_test_bags_do_not_depend_on_how_many_train(self):
        specs = [spec_of(pool="all", bags=n, test_bags=20, validation_instances=v) for n, v in ((10, 40), (50, 0))]
        few, more = (drawn(spec, made()) for spec in specs)
        assert same(few[2], more[2]) and len(few[2]) == 20 and len(few[0]) == 10 and len(more[0]) == 50
        assert not same(few[2], drawn(specs[0].but(seed=1), made())[2])

    def test_more_than_there_are_is_refused(self):
        with pytest.raises(ValueError, match="500 test bags of digits, there are"):
            drawn(spec_of(pool="all", test_bags=500), made())

    def test_photos_have_no_official_split(self):
        with pytest.raises(ValueError, match="images_of_groups has no official test bags; its pool is `all`"):
            drawn(spec_of_photos(bags=10, pool="official"), made(groups=np.arange(900) // 3))

    @pytest.mark.parametrize("tier", ["gpu", "paper"])
    def test_figure_1_and_table_1_use_all_bags_and_figure_3_the_numbers_of_the_paper(self, tier):
        runs = [run for run in plan("mle_llp", tier) if run.spec.values().get("dataset") in PAPERS_DATA]
        for dataset in PAPERS_DATA:
            own = [run for run in runs if run.spec.dataset == dataset and run.spec.pool == "all"]
            whole = [run for run in own if run.spec.bags == 0]
            assert {run.method for run in whole} >= {*TIMED, "durations"}
            assert all(run.spec.test_bags == run.spec.validation_instances == 0 for run in whole)
            some = {run.spec.bags for run in own if run.spec.bags}
            assert some == {200, 400, 600, 800, 1000}
            assert all(run.spec.test_bags == 250 for run in own if run.spec.bags)
        timed = [run for run in runs if run.spec.task == "durations"]
        assert all(run.spec.bags == 0 and run.spec.images_per_batch == 16 for run in timed) and len(timed) == 20


class TestNaturalBags:
    """Photos: whole, and split anew in every repetition."""

    @pytest.fixture
    def photos(self):
        sizes = np.random.default_rng(3).integers(1, 7, 250)
        groups = np.random.default_rng(4).permutation(np.repeat(np.arange(250) * 10, sizes))
        return made(len(groups), len(groups) // 2, groups)

    def test_a_bag_is_a_whole_photo_and_every_photo_is_in_one_split(self, photos):
        train, validation, test = drawn(spec_of_photos(bags=0, test_bags=50), photos)
        seen = []
        for bags in (train, validation, test):
            for a, b in itertools.pairwise(bags.offsets):
                (photo,) = set(photos.groups[bags.indices[a:b]])
                assert sorted(bags.indices[a:b]) == np.flatnonzero(photos.groups == photo).tolist()
                seen.append(photo)
        assert len(test) == 50 and sorted(seen) == np.unique(photos.groups).tolist()
        assert test.indices.min() < photos.n_train <= test.indices.max()  # there is no official split of photos

    def test_each_repetition_has_other_test_photos_whatever_else_the_spec_says(self, photos):
        tests = [drawn(spec_of_photos(bags=n, test_bags=50, seed=s), photos)[2] for n, s in ((0, 0), (40, 0), (40, 1))]
        assert same(tests[0], tests[1]) and set(tests[0].indices) != set(tests[2].indices)

    def test_fewer_photos_of_one_seed_are_a_part_of_more(self, photos):
        few, more = (drawn(spec_of_photos(bags=n, test_bags=50), photos) for n in (20, 80))
        assert same(few[0], more[0].take(np.arange(20))) and same(few[1], more[1])


class TestClasses:
    """Which instances of a dataset, and what each class is called."""

    @pytest.mark.parametrize("classes", ["3 8", "8 3", "0 5 9"])
    def test_labels_number_the_classes_in_the_order_they_are_named(self, classes, data_root):
        data, digits = data_of("digits", classes, "mlp", False, CPU), datasets.load("digits")
        numbers = [int(name) for name in classes.split()]
        halves = [(getattr(digits, f"x_{half}"), getattr(digits, f"y_{half}")) for half in ("train", "test")]
        chosen = [(x[np.isin(y, numbers)], y[np.isin(y, numbers)]) for x, y in halves]
        assert data.classes == tuple(classes.split()) and data.n_train == len(chosen[0][1])
        assert np.array_equal(np.array(numbers)[data.labels], np.concatenate([y for _, y in chosen]))
        assert np.array_equal(data.inputs.array.numpy(), np.concatenate([x for x, _ in chosen]))

    def test_without_names_all_classes_are_there(self, data_root):
        data, digits = data_of("digits", "", "mlp", False, CPU), datasets.load("digits")
        assert data.classes == digits.classes and data.n_train == len(digits.y_train)
        assert np.array_equal(data.labels, np.concatenate([digits.y_train, digits.y_test]))
        assert data.checksums == {"digits": digits.sha256} and data.groups is None

    def test_test_bags_hold_images_of_the_test_set(self, data_root):
        data, digits = data_of("digits", "3 8", "mlp", False, CPU), datasets.load("digits")
        test = drawn(spec_of(test_bags=0), data)[2]
        known = {x.tobytes(): int(y) for x, y in zip(digits.x_test, digits.y_test, strict=True)}
        images = data.inputs.array[torch.from_numpy(test.indices)].numpy()
        assert [known[x.tobytes()] for x in images] == np.array([3, 8])[data.labels[test.indices]].tolist()

    def test_images_are_between_minus_one_and_one_and_change_only_when_they_are_to(self, data_root):
        """The range of LLP-GAN's generator: in another, the range alone tells a fake."""
        which = np.arange(6)
        for augment in (False, True):
            inputs = data_of("simulated_images", "", "discriminator", augment, CPU).inputs
            plain = inputs.batch(which)
            assert plain.min() >= -1 and plain.max() <= 1 and plain.max() - plain.min() > 1
            assert torch.equal(inputs.batch(which, seed=1), plain) != augment


class TestPlan:
    """What makes two runs different runs."""

    @pytest.fixture
    def planned(self, tmp_path):
        """{id: run} of the smoke tier with other settings; `grid` adds axes to what trains, or to one experiment."""
        root = Path(__file__).parents[2]
        (tmp_path / "config").symlink_to(root / "config")
        path = tmp_path / "papers/mle_llp/config.yaml"
        path.parent.mkdir(parents=True)
        (path.parent / "names.py").symlink_to(root / "papers/mle_llp/names.py")

        def with_settings(grid=(), of="", **settings):
            content = yaml.safe_load((root / "papers/mle_llp/config.yaml").read_text())
            tier = content["tiers"]["smoke"]
            for key, value in settings.items():
                tier["settings"][key] = {"value": value, "source": "assumed: a test"}
            for experiment in tier["experiments"]:
                if "loss" in experiment["grid"] and of in experiment["name"] and "search" not in experiment["name"]:
                    experiment["grid"] |= dict(grid)
            path.write_text(yaml.safe_dump(content, sort_keys=False))
            return {run.id: run for run in plan("mle_llp", "smoke", tmp_path)}

        return with_settings

    @pytest.mark.parametrize(
        ("readers", "key"),
        [
            *(({"llp_gan", "durations"}, k) for k in ("noise", "generator_width", "proportion_weight", "gan_beta1")),
            ({"mle_llp"}, "stop_change"),
            ({"e_step"}, "instances"),
        ],
    )
    def test_a_key_that_one_method_reads_changes_no_run_of_the_others(self, planned, readers, key):
        before, after = planned(), planned(**{key: 7})
        assert before.keys() == after.keys()
        changed = {run.method.split("-")[0] for run in after.values() if run.spec != before[run.id].spec}
        assert changed == readers  # durations times all methods

    def test_a_key_that_only_one_method_reads_splits_no_record_of_the_others_in_a_grid_either(self, planned):
        before, after = planned(), planned(grid={"noise": [7]}, of="figure")
        split = {i for i, run in before.items() if "/llp_gan" in i and "figure" in run.experiment}
        assert len(split) > 4 and set(before) - split == {i for i in after if "-noise7" not in i}
        assert split == {i.replace("-noise7", "") for i in after if "-noise7" in i}

    def test_what_a_grid_varies_joins_the_method_and_what_an_id_spells_out_does_not(self, planned):
        before, after = planned(), planned(grid={"learning_rate": [0.5], "schedule": ["cosine"]})
        trained = {i for i, run in before.items() if "loss" in run.spec and not run.spec.choose_rate}
        assert {before[i].spec.loss for i in trained} == {*TRAINED}
        renamed = {i for i in after if re.search(r"-learning_rate0.5(-rate_times3)?-cosine/", i)}
        assert len(trained) == len(renamed) > 10
        assert set(before) - trained == set(after) & set(before)
        assert all(r.method.startswith(r.spec.loss) for r in after.values() if "loss" in r.spec)

    def test_a_search_names_no_rate_and_is_shared_by_what_comes_after_it(self):
        """All seeds of a method, a dataset and a number of bags, and the control that multiplies the rate."""
        runs = [run for run in plan("mle_llp", "paper") if run.spec.task == "learning" and run.spec.choose_rate]
        assert all("learning_rate" not in run.spec for run in runs)
        stages = {}
        for run in runs:
            stages.setdefault(run.spec.stage("search").hash, set()).add((run.method, run.id.split("/")[1:4][2]))
        plain = [{method.removesuffix("-rate_times3") for method, _ in names} for names in stages.values()]
        assert all(len(names) == 1 for names in plain)
        assert {("dllp", "m-all"), ("dllp-rate_times3", "m-all")} in [*stages.values()]

    def test_checks_that_train_nothing_do_not_depend_on_how_others_train(self, planned):
        before, after = planned(), planned(learning_rate=0.5, epochs=77, bags=12, weight_decay=3)
        same = {run.method for run in before.values() if run.id in after and after[run.id].spec == run.spec}
        assert {"equations", "e_step"} <= same and not same & {*TRAINED, "durations"}


class TestTiming:
    """Table 1, and the E-step alone."""

    def test_the_e_step_is_timed_at_every_size_and_enumeration_while_it_can(self):
        found = task_timing.e_step(16, 0, CPU)
        sizes = {f"e_step_ms_{n}" for n in SIZES} | {f"enumerate_ms_{n}" for n in (2, 4, 8, 12)}
        assert set(found) == sizes and min(found.values()) > 0

    def test_an_epoch_of_each_method_is_timed_and_held_against_dllps(self, data_root):
        (spec,) = (run.spec for run in SMOKE if run.spec.task == "durations")
        result = train(spec.but(bags=4, rounds=1), device="cpu")
        found = {name: value for name, value in result.cost.items() if name != "peak_memory_mb"}
        assert set(found) == {f"{kind}_{m}" for kind in ("epoch_s", "ratio") for m in TIMED} | {"e_step_share"}
        assert min(found.values()) > 0 and found["ratio_dllp"] == 1
        for method in TIMED:
            assert found[f"ratio_{method}"] == pytest.approx(found[f"epoch_s_{method}"] / found["epoch_s_dllp"])
        assert result.bags["train"]["bags"] == 4 and not result.curves
        assert result.metrics == {"last": {}}  # a rerun has the same

    def test_methods_take_turns_and_each_sees_every_instance_once_a_round(self, monkeypatch):
        """Timed one after the other, a slower hour of the machine would be one method's."""
        data, log = made(), []
        bags, _, _ = drawn(spec_of(bags=20), data)

        class Noted:
            def __init__(self, name):
                self.name = name

            def predict(self, x):
                log.append((f"{self.name}, E-step", len(x)))
                return torch.full((len(x), 2), 0.5)

            def update(self, batch):
                log.append((self.name, len(batch.x)))
                return {"loss": torch.tensor(0.0)}

            def set_learning_rate(self, rate):
                pass

        monkeypatch.setattr(task_timing, "method_of", lambda loss, *_: Noted(loss))
        (spec,) = (run.spec for run in SMOKE if run.spec.task == "durations")
        task_timing.durations(spec.but(rounds=3), data, bags)
        turns = [(name, sum(n for _, n in seen)) for name, seen in itertools.groupby(log, lambda entry: entry[0])]
        m = len(bags.indices)
        one_round = [(name, m) for name in (*TIMED[:-1], "mle_llp, E-step", "mle_llp")]
        assert [name for name, _ in turns[:4]] == list(TIMED) and turns[4:] == 3 * one_round
        assert TIMED[-1] == "mle_llp"


class TestChecks:
    """The oracles themselves, and what is checked against them without training."""

    def test_enumeration_by_hand(self):
        phi, log_likelihood = enumerated_posterior(np.array([0.2, 0.7]), 1)
        np.testing.assert_allclose(phi, np.array([0.2 * 0.3, 0.8 * 0.7]) / 0.62)
        assert log_likelihood == pytest.approx(np.log(0.62))

    def test_the_textbook_programme_equals_enumeration_for_every_count(self):
        for n in range(1, 9):
            p = np.random.default_rng(n).random(n)
            for y in range(n + 1):
                phi = one_bag_posterior(p, y)
                np.testing.assert_allclose(phi, enumerated_posterior(p, y)[0], atol=1e-12)
                assert phi.sum() == pytest.approx(y)

    def test_the_equations_hold(self):
        found = checks.check(seed=1, largest=7, bags=10)
        for name in ("posterior_error", "likelihood_error", "gradient_error"):
            assert 0 < found[name] < 1e-10, name
        assert 0 <= found["likelihood_fall"] < 1e-9 and 0 < found["float32_error"] < 1e-4

    def test_a_wrong_posterior_does_not_pass(self, monkeypatch):
        """A check that cannot fail is no evidence."""
        right = checks.posterior
        monkeypatch.setattr(checks, "posterior", lambda *bags: (right(*bags)[0].flip(1), right(*bags)[1] + 0.01))
        found = checks.check(seed=1, largest=3, bags=10)
        for name in ("posterior_error", "gradient_error", "likelihood_fall"):
            assert found[name] > 0.01, name
        assert found["likelihood_error"] == pytest.approx(0.01)
