"""The rules between config.yaml and a record, over all papers: who reads what, what changes a hash, what is refused."""

import shutil

import pytest
import yaml

from shared.config import ConfigError, Spec, SpecError, find, papers, plan, read_config, repository
from shared.runs import one

PAPERS = papers()
each_paper = pytest.mark.parametrize("paper", PAPERS)


def kinds(paper):
    """One run of each kind at smoke: runs of a kind hold the same keys and are called alike."""
    found = {}
    for run in plan(paper, "smoke"):
        found.setdefault((tuple(run.spec), run.method), run)
    return list(found.values())


def train_of(paper):
    return __import__(f"papers.{paper}.train", fromlist=["train"]).train


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory):
    """(folder of all checkpoints, {stage: what its training has read}): what several runs stand on is trained once."""
    return tmp_path_factory.mktemp("kinds") / ".work", {}


@pytest.mark.slow
@pytest.mark.parametrize("run", [pytest.param(run, id=run.id) for paper in PAPERS for run in kinds(paper)])
def test_a_run_reads_what_its_spec_holds(run, data_root, trained_here):
    """A value that nobody reads is a knob without effect; a read of another value raises by itself."""
    (work, read), spec = trained_here, Spec(run.spec._layout, run.spec._values)
    try:
        train_of(spec.paper)(spec, device="cpu", checkpoint=work / f"{run.id}.pt", key=f"{spec.hash}-code")
    except Exception as error:
        if not getattr(error, "not_run", False):
            raise
        pytest.skip(f"NOT RUN: {error}")
    unread = set(spec.unread)
    for stage in map(spec.stage, spec.stage_names):
        known = read.setdefault((spec.paper, stage.hash), set())
        known |= set(stage) - unread
        unread -= known
    assert not unread


@each_paper
def test_a_neutral_value_changes_nothing(paper, tmp_path):
    """A key added with the value that means "as before" must not train a paper again."""
    root = repository()
    (tmp_path / "config").symlink_to(root / "config")
    shutil.copytree(root / "papers" / paper, tmp_path / "papers" / paper)
    path = tmp_path / "papers" / paper / "config.yaml"
    content = yaml.safe_load(path.read_text())
    for section in content["sections"].values():
        section[f"knob_{len(section)}"] = {"value": 0, "neutral": 0, "source": "assumed: as before"}
        break
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    for tier in read_config(paper).tiers:
        before, after = plan(paper, tier), plan(paper, tier, tmp_path)
        assert [(r.id, r.spec_hash, r.spec.canonical()) for r in after] == [
            (r.id, r.spec_hash, r.spec.canonical()) for r in before
        ]
        assert len(after[0].spec) == len(before[0].spec) + 1


@each_paper
@pytest.mark.parametrize("place", ["sections", "settings", "set", "grid"])
def test_a_misspelt_key_in_the_file_is_refused(paper, place, tmp_path):
    """A misspelling that is taken in silence trains the default under the name of the change."""
    root = repository()
    (tmp_path / "config").symlink_to(root / "config")
    shutil.copytree(root / "papers" / paper, tmp_path / "papers" / paper)
    path = tmp_path / "papers" / paper / "config.yaml"
    content = yaml.safe_load(path.read_text())
    tier = content["tiers"]["smoke"]
    entry = {"value": 1, "source": "assumed: a test"}
    if place == "sections":
        next(iter(content["sections"].values()))["when"] = {"seeed": 0}
    elif place == "settings":
        tier.setdefault("settings", {})["seeed"] = entry
    elif place == "set":
        tier["experiments"][0].setdefault("set", {})["seeed"] = entry
    else:
        tier["experiments"][0]["grid"]["seeed"] = [1]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ConfigError, match=r"unknown key 'seeed'; did you mean 'seed'\?"):
        plan(paper, "smoke", tmp_path)


@each_paper
def test_a_misspelt_key_on_the_command_line_is_refused(paper, capsys):
    run = plan(paper, "smoke")[-1]
    assert one.main(paper, [run.id, "--here", "--tier", "smoke", "--set", "seeed=1"]) == 2
    assert "unknown key 'seeed'; did you mean 'seed'?" in capsys.readouterr().err


@each_paper
def test_a_misspelt_key_in_a_call_is_refused(paper):
    run = plan(paper, "smoke")[-1]
    with pytest.raises(SpecError, match="did you mean 'seed'"):
        train_of(paper)({**run.spec, "seeed": 1}, device="cpu")
    with pytest.raises(SpecError, match="did you mean 'seed'"):
        run.spec.but(seeed=1)


def a_closed_key(paper):
    """The last run of smoke, a key that it holds and whose values are a closed set, and one of these misspelt."""
    run, config = plan(paper, "smoke")[-1], read_config(paper)
    key = next(key for key in run.spec if len(config.layout.one_of.get(key, "")) > 1)
    value = config.layout.one_of[key][-1]
    return run, key, value, value + value[-1]


@each_paper
@pytest.mark.parametrize("place", ["sections", "when", "settings", "set", "grid"])
def test_a_misspelt_value_in_the_file_is_refused(paper, place, tmp_path):
    """A control that is misspelt would be the treatment under the name of the control."""
    root, (_, key, value, misspelt) = repository(), a_closed_key(paper)
    (tmp_path / "config").symlink_to(root / "config")
    shutil.copytree(root / "papers" / paper, tmp_path / "papers" / paper)
    path = tmp_path / "papers" / paper / "config.yaml"
    content = yaml.safe_load(path.read_text())
    tier = content["tiers"]["smoke"]
    entry = {"value": misspelt, "source": "assumed: a test"}
    if place == "sections":
        next(section for section in content["sections"].values() if key in section)[key]["value"] = misspelt
    elif place == "when":
        list(content["sections"].values())[-1]["when"] = {key: {"not": misspelt}}
    elif place == "settings":
        tier.setdefault("settings", {})[key] = entry
    elif place == "set":
        tier["experiments"][0].setdefault("set", {})[key] = entry
    else:
        tier["experiments"][0]["grid"][key] = [value, misspelt]
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(ConfigError, match=f"{key} cannot be '{misspelt}'; did you mean '{value}'") as refused:
        plan(paper, "smoke", tmp_path)
    assert str(refused.value).startswith(f"papers/{paper}/config.yaml: ") and place in str(refused.value)


@each_paper
def test_a_misspelt_value_on_the_command_line_and_in_a_call_is_refused(paper, capsys):
    run, key, value, misspelt = a_closed_key(paper)
    message = f"{paper}: {key} cannot be '{misspelt}'; did you mean '{value}'?"
    assert one.main(paper, [run.id, "--here", "--tier", "smoke", "--set", f"{key}={misspelt}"]) == 2
    assert message in capsys.readouterr().err
    for call in (lambda: run.spec.but(**{key: misspelt}), lambda: train_of(paper)({**run.spec, key: misspelt})):
        with pytest.raises(SpecError) as refused:
            call()
        assert message in str(refused.value)


@each_paper
def test_the_values_that_a_text_may_have_are_those_of_the_code(paper):
    """What the code knows by a table of its own, and what it reads of a set of data."""
    from papers.benchmark import makers, methods, tasks
    from papers.benchmark import train as benchmark
    from papers.ece import criteria
    from papers.ece import loss as ece
    from papers.plot import teacher
    from papers.vp_dsd import data, task_detection
    from papers.vp_dsd import train as vp_dsd
    from papers.vp_dsd.learning import feature_label, rivals
    from shared.datasets import registry
    from shared.training import Schedule

    known = {
        "benchmark": {
            "dataset": tasks.TASKS,
            "method": methods.METHODS,
            "bags": makers.KINDS,
            "network": (tasks.FEATURES, *benchmark.NETWORKS),
        },
        "ece": {
            "loss": criteria.LOSSES,
            "schedule": ece.SCHEDULES,
            "head": ece.HEADS,
            "confidence": ece.CONFIDENCES,
        },
        "plot": {"network": ("cnn13", *teacher.PERCEPTRONS)},
        "vp_dsd": {
            "task": ("check", *vp_dsd.TASKS),
            "dataset": ("wbc_stained", *data.HOLOGRAMS),
            "detector": task_detection.DETECTORS,
            "loss": rivals.RIVALS,
            "representation": rivals.REPRESENTATIONS,
            "flm_labels": feature_label.LABELS,
        },
    }.get(paper, {})
    one_of = read_config(paper).layout.one_of
    assert {key: set(one_of[key]) for key in known} == {key: set(values) for key, values in known.items()}
    assert {*one_of.get("dataset", ())} <= {*registry.entries()}
    for key in {"schedule", "lr_schedule"} & one_of.keys() - known.keys():
        for kind in one_of[key]:
            Schedule(kind, 0.1)


@each_paper
def test_a_fraction_of_what_is_counted_is_refused(paper):
    run = plan(paper, "smoke")[-1]
    with pytest.raises(SpecError, match=r"seed must be a whole number, and not 2\.5"):
        run.spec.but(seed=2.5)
    assert run.spec.but(seed=2.0) == run.spec.but(seed=2)


@each_paper
def test_a_missing_value_in_a_call_is_refused(paper):
    run = plan(paper, "smoke")[-1]
    values = run.spec.values()
    del values["seed"]
    with pytest.raises(SpecError, match="the value of 'seed' is missing"):
        train_of(paper)(values, device="cpu")


@each_paper
def test_no_value_is_set_that_no_run_reads(paper):
    """A setting of a tier or an experiment that none of its runs holds says something that is not so."""
    config, idle = read_config(paper), []
    held_somewhere = set()
    for tier, section in config.tiers.items():
        runs = plan(paper, tier)
        held = {key for run in runs for key in run.spec}
        held_somewhere |= held
        idle += [f"tiers.{tier}.settings.{key}" for key in section.get("settings") or {} if key not in held]
    idle += [f"sections: {key}" for key in config.values if key not in held_somewhere]
    assert not idle, f"papers/{paper}/config.yaml: no run reads {', '.join(idle)}"


@each_paper
def test_a_run_is_found_by_its_id(paper):
    run = plan(paper, "smoke")[0]
    assert find(paper, "smoke", run.id) == find(paper, "smoke", run.id.removeprefix(f"{paper}/"))
    with pytest.raises(ConfigError, match="has no run"):
        find(paper, "smoke", "no/such/run")
