"""Specs: a value is read where its section holds and nowhere else; what is unknown or would not be read is refused."""

import copy
import multiprocessing
import pickle

import pytest

from shared.config import ConfigError, Spec, SpecError, read_config
from shared.config.spec import parse_changes

ALWAYS = ["task", "seed"]
LEARNING = [*ALWAYS, "dataset", "sizes", "augment", "loss", "rate", "epochs"]


@pytest.mark.parametrize(
    ("grid", "keys"),
    [
        ({"task": "check"}, ALWAYS),
        ({"loss": "kl"}, LEARNING),
        ({"loss": "rot"}, [*LEARNING, "alpha", "solver"]),
        ({"loss": "rot", "solver": "exact"}, [*LEARNING, "alpha", "solver", "steps"]),
        ({"loss": "pseudo"}, [*LEARNING, "width", "depth"]),
        ({"loss": "avg"}, LEARNING),
        ({"loss": "avg", "augment": False}, [*LEARNING, "width", "depth"]),
        ({"loss": "rot", "augment": False}, [*LEARNING, "alpha", "solver", "width", "depth"]),
        ({"loss": "kl", "augment": False}, LEARNING),
    ],
    ids=str,
)
def test_a_spec_holds_the_sections_whose_condition_is_met(toy_paper, grid, keys):
    spec = toy_paper.spec(**grid)
    assert list(spec) == spec.keys() == list(spec.values()) == keys and len(spec) == len(keys)
    assert {key for key in read_config("toy", toy_paper.root).values if key in spec} == set(keys)


def test_a_condition_on_a_key_that_does_not_hold_is_not_met(toy_paper):
    """Else a check, whose loss nobody asked for, would hold the section of the loss that stands in the file."""
    toy_paper.write(("loss: {value: kl", "loss: {value: rot"), ("solver: {value: plain", "solver: {value: exact"))
    assert list(toy_paper.spec(task="check")) == ALWAYS
    assert "steps" not in toy_paper.spec(loss="kl") and "steps" in toy_paper.spec(loss="rot")


def test_sections_may_stand_in_any_order(toy_paper):
    """A chain of conditions, the last one first."""
    tolerance = toy_paper.folder.joinpath("config.yaml").read_text().split("  tolerance:\n")[1].split("  teacher:\n")[0]
    toy_paper.write(("  tolerance:\n" + tolerance, ""), ("sections:\n", "sections:\n  tolerance:\n" + tolerance))
    assert next(iter(toy_paper.spec(loss="rot", solver="exact"))) == "steps"
    assert "steps" not in toy_paper.spec(loss="rot", solver="plain")


def test_two_conditions_of_one_way_must_both_be_met(toy_paper):
    toy_paper.write(("when: {solver: {not: plain}}", "when: {solver: {not: [plain, other]}, seed: [1, 2]}"))
    held = {
        (solver, seed): "steps" in toy_paper.spec(loss="rot", solver=solver, seed=seed)
        for solver in ("plain", "other", "exact")
        for seed in (0, 1, 2)
    }
    assert [pair for pair, holds in held.items() if holds] == [("exact", 1), ("exact", 2)]


class TestRead:
    def test_by_attribute_and_by_key(self, toy_paper):
        spec = toy_paper.spec(loss="rot")
        assert spec.alpha == spec["alpha"] == 0.3 and spec.sizes == [1, 2] and spec.augment is True
        assert spec.paper == "toy"

    def test_of_a_value_that_does_not_hold_says_where_it_does(self, toy_paper):
        with pytest.raises(SpecError, match=r"^toy: 'alpha' is read only where loss is 'rot', which is not so here$"):
            _ = toy_paper.spec(loss="kl").alpha
        with pytest.raises(SpecError, match="'steps' is read only where solver is not 'plain'"):
            _ = toy_paper.spec(loss="rot")["steps"]
        with pytest.raises(SpecError, match="where loss is 'pseudo' or loss is 'rot' or 'avg', augment is False"):
            _ = toy_paper.spec(loss="rot").width

    def test_of_an_unknown_key_names_the_nearest(self, toy_paper):
        spec = toy_paper.spec(loss="kl")
        for read in (lambda: spec.alhpa, lambda: spec["alhpa"], lambda: "alhpa" in spec, lambda: spec.but(alhpa=1)):
            with pytest.raises(SpecError, match=r"^toy: unknown key 'alhpa'; did you mean 'alpha'\?$"):
                read()
        with pytest.raises(SpecError, match="unknown key 'zzz'; known are alpha, augment, dataset,"):
            _ = spec.zzz

    def test_errors_are_those_of_a_mapping_of_an_attribute_and_of_a_configuration(self, toy_paper):
        spec = toy_paper.spec(loss="kl")
        for error in (KeyError, AttributeError, ConfigError):
            with pytest.raises(error):
                _ = spec.alpha
        assert not hasattr(spec, "alpha") and not hasattr(spec, "get") and hasattr(spec, "rate")

    def test_is_noted_and_asking_what_holds_is_no_reading(self, toy_paper):
        spec = toy_paper.spec(loss="rot")
        assert spec.unread == list(spec)
        assert "alpha" in spec and spec.values()["alpha"] == 0.3 and spec.canonical() and spec.hash and repr(spec)
        assert spec == copy.copy(spec) and hash(spec) and len(spec) and spec.unread == list(spec)
        _ = spec.alpha, spec["rate"]
        assert spec.unread == [key for key in spec if key not in ("alpha", "rate")]
        assert {**spec} == spec.values() and spec.unread == []

    def test_of_a_section_gives_all_its_values_and_notes_them(self, toy_paper):
        spec = toy_paper.spec(loss="rot")
        assert spec.section("rot") == {"alpha": 0.3, "solver": "plain"}
        assert not {"alpha", "solver"} & set(spec.unread) and "rate" in spec.unread
        with pytest.raises(SpecError, match=r"the section 'rott' does not hold; did you mean 'rot'\?"):
            spec.section("rott")
        with pytest.raises(SpecError, match="the section 'rot' does not hold; known are data, task, training"):
            toy_paper.spec(loss="kl").section("rot")


class TestStage:
    """What a shared stage is given, and what its cache is keyed by."""

    @pytest.fixture
    def spec(self, toy_paper):
        return toy_paper.spec(loss="pseudo")

    def test_holds_its_sections_only(self, spec):
        teacher = spec.stage("teacher")
        assert teacher.values() == teacher.canonical() == {"width": 8, "depth": 2} and teacher.paper == "toy"
        assert "width" in teacher and "rate" not in teacher and teacher.section("teacher") == teacher.values()

    def test_cannot_read_what_its_cache_does_not_depend_on(self, spec):
        with pytest.raises(SpecError, match="toy: the stage 'teacher' reads 'rate' of the section 'training'"):
            _ = spec.stage("teacher").rate
        with pytest.raises(SpecError, match="the stage 'teacher' reads 'seed' of the section 'task'"):
            _ = spec.stage("teacher")["seed"]
        with pytest.raises(SpecError, match="the section 'training' does not hold"):
            spec.stage("teacher").section("training")

    def test_is_the_same_for_runs_that_differ_elsewhere_and_another_for_those_that_differ_in_it(self, spec):
        teacher = spec.stage("teacher")
        assert spec.but(rate=0.7, seed=3).stage("teacher") == teacher
        assert spec.but(rate=0.7).stage("teacher").hash == teacher.hash != spec.hash
        assert spec.but(width=9).stage("teacher") != teacher
        assert spec.but(width=9).stage("teacher").hash != teacher.hash

    def test_reads_count_for_the_run(self, spec):
        _ = spec.stage("teacher").width
        assert "width" not in spec.unread and "depth" in spec.unread

    def test_of_an_unknown_name_is_refused_and_none_leads_into_another(self, spec, toy_paper):
        with pytest.raises(SpecError, match=r"no section has the stage 'techer'; did you mean 'teacher'\?"):
            spec.stage("techer")
        toy_paper.write(("  rot:\n", "  rot:\n    stage: other\n"))
        spec = toy_paper.spec(loss="rot", augment=False)
        assert list(spec.stage("other")) == ["alpha", "solver"]
        with pytest.raises(SpecError, match="the stage 'teacher' reads the stage 'other'"):
            spec.stage("teacher").stage("other")
        assert spec.stage("teacher").stage("teacher") == spec.stage("teacher")

    def test_that_does_not_hold_is_empty_and_says_so_when_read(self, toy_paper):
        teacher = toy_paper.spec(loss="kl").stage("teacher")
        assert teacher.values() == {}
        with pytest.raises(SpecError, match="'width' is read only where loss is 'pseudo' or"):
            _ = teacher.width

    def test_but_stays_a_stage(self, spec):
        other = spec.stage("teacher").but(width=9)
        assert other.values() == {"width": 9, "depth": 2}
        with pytest.raises(SpecError, match="toy: rate would not be read; it is where task is 'learning'"):
            spec.stage("teacher").but(rate=0.7)


class TestBut:
    def test_makes_another_and_leaves_the_first(self, toy_paper):
        spec = toy_paper.spec(loss="rot")
        other = spec.but(alpha=0.9, epochs=1)
        assert (other.alpha, other.epochs, other.rate) == (0.9, 1, 0.1) and (spec.alpha, spec.epochs) == (0.3, 3)
        assert other != spec and other.hash != spec.hash and spec.but() == spec == other.but(alpha=0.3, epochs=3)

    def test_finds_the_sections_anew_and_their_values_are_those_of_the_tier(self, toy_paper):
        (run,) = toy_paper.plan({"loss": "kl"}, alpha=0.7)
        other = run.spec.but(loss="rot")
        assert other.alpha == 0.7 and "alpha" not in other.but(loss="kl")
        assert run.spec.but(loss="rot", solver="exact").steps == 10 and other.but(loss="kl") == run.spec

    def test_refuses_what_would_not_be_read(self, toy_paper):
        with pytest.raises(SpecError, match="^toy: alpha would not be read; it is where loss is 'rot'$"):
            toy_paper.spec(loss="kl").but(alpha=0.9)
        with pytest.raises(SpecError, match="alpha would not be read"):
            toy_paper.spec(loss="rot").but(alpha=0.9, loss="kl")

    @pytest.mark.parametrize(
        "change", [{"rate": "0.1"}, {"rate": True}, {"augment": 1}, {"loss": 1}, {"sizes": 1}, {"epochs": [1]}], ids=str
    )
    def test_refuses_a_value_of_another_type(self, toy_paper, change):
        (key,) = change
        with pytest.raises(SpecError, match=f"^toy: {key} must be like .*, and not"):
            toy_paper.spec(loss="kl").but(**change)


class TestOf:
    @pytest.fixture
    def layout(self, toy_paper):
        return read_config("toy", toy_paper.root).layout

    def test_a_spec_is_itself_and_a_mapping_becomes_the_same(self, toy_paper, layout):
        spec = toy_paper.spec(loss="rot")
        assert Spec.of(spec, layout) is spec
        again = Spec.of({**spec}, layout)
        assert again == spec and again.hash == spec.hash and again.unread == list(spec)
        assert Spec.of(spec.canonical(), layout) == spec

    def test_a_mapping_must_say_all_and_no_more(self, toy_paper, layout):
        spec = toy_paper.spec(loss="rot")
        with pytest.raises(SpecError, match=r"toy: unknown key 'alfa'; did you mean 'alpha'\?"):
            Spec.of({**spec, "alfa": 0.4}, layout)
        values = {**spec}
        del values["alpha"]
        with pytest.raises(SpecError, match="toy: the value of 'alpha' is missing"):
            Spec.of(values, layout)
        with pytest.raises(SpecError, match="toy: alpha would not be read; it is where loss is 'rot'"):
            Spec.of({**toy_paper.spec(loss="kl"), "alpha": 0.3}, layout)

    def test_what_a_mapping_did_not_say_is_missed_when_a_section_comes_to_hold(self, toy_paper, layout):
        spec = Spec.of({**toy_paper.spec(loss="kl")}, layout)
        with pytest.raises(SpecError, match="toy: the value of 'alpha' is missing"):
            spec.but(loss="rot")
        assert spec.but(loss="rot", alpha=0.2, solver="plain").alpha == 0.2

    def test_a_spec_of_another_paper_is_refused(self, toy_paper):
        with pytest.raises(SpecError, match="a spec of toy was given to rot"):
            Spec.of(toy_paper.spec(loss="rot"), read_config("rot").layout)


def test_a_spec_does_not_change(toy_paper):
    spec = toy_paper.spec(loss="rot")
    with pytest.raises(SpecError, match=r"a spec does not change; spec\.but\(alpha=\.\.\.\) makes another"):
        spec.alpha = 0.5
    with pytest.raises(SpecError, match="a spec does not change"):
        spec.alhpa = 0.5
    with pytest.raises(TypeError):
        spec["alpha"] = 0.5
    with pytest.raises(AttributeError):
        del spec.alpha
    before = spec.hash
    spec.sizes.append(3)
    spec.values()["sizes"].append(3)
    spec["sizes"][0] = 9
    spec.canonical()["alpha"] = 1
    assert spec.sizes == [1, 2] and spec.hash == before
    assert toy_paper.spec(loss="kl").sizes == [1, 2], "specs of one plan share no list"


def test_specs_are_equal_where_all_they_hold_is(toy_paper):
    kl, rot = (run.spec for run in toy_paper.plan({"loss": ["kl", "rot"]}))
    (other,) = toy_paper.plan({"loss": "kl"}, alpha=0.9)
    assert other.spec == kl and hash(other.spec) == hash(kl), "a value that is not read makes no difference"
    assert kl != rot and rot != rot.but(alpha=0.4) and kl != {**kl} and kl != "kl"
    assert len({kl, other.spec, rot, rot.but(alpha=0.4), rot.but(alpha=0.3)}) == 3


def test_specs_that_are_equal_have_one_hash(toy_paper):
    """1 == 1.0 in Python and not in a hash: such specs are two."""
    spec = toy_paper.spec(loss="rot")
    whole, real = spec.but(alpha=1), spec.but(alpha=1.0)
    assert (whole == real) == (whole.hash == real.hash)


def _read_there(pipe, spec):
    pipe.send((spec, spec.alpha, spec.hash, spec.stage("teacher").values()))


def test_a_spec_goes_to_a_spawned_process_and_comes_back(toy_paper):
    spec = toy_paper.spec(loss="rot", augment=False)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_read_there, args=(theirs, spec))
    process.start()
    assert ours.poll(60), "it sent nothing"
    back, alpha, digest, teacher = ours.recv()
    process.join()
    assert back == spec and (alpha, digest) == (0.3, spec.hash) and teacher == {"width": 8, "depth": 2}
    assert back.but(loss="kl") == spec.but(loss="kl") and spec.unread == list(spec)


def test_a_stage_keeps_its_bounds_when_it_is_pickled_or_copied(toy_paper):
    teacher = toy_paper.spec(loss="pseudo").stage("teacher")
    for again in (pickle.loads(pickle.dumps(teacher)), copy.copy(teacher), copy.deepcopy(teacher)):
        assert again == teacher
        with pytest.raises(SpecError, match="the stage 'teacher' reads 'rate'"):
            _ = again.rate


class TestNeutral:
    """A key added with the value that means "as before" changes no hash and no record."""

    @pytest.fixture
    def runs(self, toy_paper):
        before = toy_paper.plan()
        knob = "    knob: {value: 0, neutral: 0, source: 'assumed: as before'}\n"
        toy_paper.write(
            ("  training:\n    when: {task: learning}\n", f"  training:\n    when: {{task: learning}}\n{knob}")
        )
        return before, toy_paper.plan()

    def test_its_value_is_read_and_neither_hash_nor_record_know_it(self, runs):
        before, after = runs
        assert [(r.id, r.spec_hash, r.spec.canonical()) for r in before] == [
            (r.id, r.spec_hash, r.spec.canonical()) for r in after
        ]
        assert after[0].spec.knob == 0 and "knob" in after[0].spec and after[0].spec.values()["knob"] == 0

    def test_another_value_changes_hash_and_record_and_is_said_in_the_name(self, runs, toy_paper):
        spec = runs[1][0].spec
        assert spec.but(knob=1).hash != spec.hash and spec.but(knob=1).canonical()["knob"] == 1
        assert spec.but(knob=1) != spec and spec.but(knob=1).but(knob=0).hash == spec.hash
        assert [run.id for run in toy_paper.plan({"knob": [0, 1]})] == [
            "toy/moons/kl/seed0",
            "toy/moons/kl-knob1/seed0",
        ]

    def test_a_record_of_before_is_understood(self, runs, toy_paper):
        before, after = runs
        assert Spec.of(before[0].spec.canonical(), read_config("toy", toy_paper.root).layout) == after[0].spec

    def test_another_default_is_not_neutral(self, toy_paper):
        text = "    rate: {value: 0.1, "
        toy_paper.write((text, "    knob: {value: 1, neutral: 0, source: 'assumed: better'}\n" + text))
        spec = toy_paper.spec(loss="kl")
        assert spec.canonical()["knob"] == 1 and "knob" not in spec.but(knob=0).canonical()


class TestTypedInAShell:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ("rate=1e-4", 1e-4),
            ("rate=.5", 0.5),
            ("rate=1", 1),
            ("rate=-2.5E3", -2500.0),
            ("epochs=7", 7),
            ("epochs=1e2", 100),
            ("epochs=3.0", 3),
            ("augment=false", False),
            ("augment=no", False),
            ("augment=True", True),
            ("loss=rot", "rot"),
            ("loss=1e-4", "1e-4"),
            ("loss=true", "true"),
            ("loss=a=b", "a=b"),
            ("dataset=", ""),
            ("sizes=[3, 4.5]", [3, 4.5]),
            ("sizes=[]", []),
        ],
    )
    def test_a_value_has_the_type_of_its_key(self, toy_paper, text, value):
        spec, key = toy_paper.spec(loss="kl"), text.partition("=")[0]
        changes = parse_changes([text], spec)
        found = spec.but(**changes)[key]
        assert changes == {key: value} and found == value and type(found) is type(value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("rate", "--set rate: write key=value"),
            ("alfa=1", r"unknown key 'alfa'; did you mean 'alpha'\?"),
            ("=1", "unknown key ''"),
            ("rate=fast", "rate must be like 0.1, a float, and not 'fast'"),
            ("rate=", "rate must be like 0.1, a float, and not None"),
            ("rate=true", "rate must be like 0.1, a float, and not True"),
            ("augment=1", "augment must be like True, a bool, and not 1"),
            ("augment=maybe", "augment must be like True, a bool, and not 'maybe'"),
            ("sizes=3", r"sizes must be like \[1, 2\], a list, and not 3"),
            ("sizes=[3", r"--set sizes=\[3: '\[3' is no value"),
            ("alpha=0.2", "alpha would not be read; it is where loss is 'rot'"),
            ("epochs=2.5", r"^toy: epochs must be a whole number, and not 2\.5$"),
            ("epochs=25e-1", "epochs must be a whole number"),
        ],
    )
    def test_another_is_refused(self, toy_paper, text, message):
        spec = toy_paper.spec(loss="kl")
        with pytest.raises(SpecError, match=message):
            spec.but(**parse_changes([text], spec))

    def test_several_are_taken_together(self, toy_paper):
        spec = toy_paper.spec(loss="kl")
        changed = spec.but(**parse_changes(["loss=rot", "alpha=1e-1", "rate=.2"], spec))
        assert (changed.loss, changed.alpha, changed.rate) == ("rot", 0.1, 0.2)

    def test_one_key_is_given_once(self, toy_paper):
        with pytest.raises(SpecError, match=r"--set rate=\.9: rate is given twice, first as 0\.3; say which"):
            parse_changes(["rate=.3", "rate=.9"], toy_paper.spec(loss="kl"))
