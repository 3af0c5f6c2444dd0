"""A config.yaml that is wrong anywhere: one sentence names the file, the place and what to do, and nothing trains."""

import copy
import json
import re

import pytest
import yaml

from shared.config import ConfigError, papers_of, plan, read_config
from tests.conftest import TOY_CONFIG

RATE, SOURCE = "    rate: {value: 0.1, ", 'source: "Section 4.1"'
GRID = "        grid: {loss: [kl, rot], seed: [0, 1]}"
EXPERIMENTS = f"    experiments:\n      - name: all\n{GRID}\n"
TIERS = f"tiers:\n  tiny:\n{EXPERIMENTS}"


FILE, TINY, ALL = r"^papers/toy/config\.yaml: ", r"tiers\.tiny", r"tiers\.tiny\.experiments \(all\)"
WHEN, NOT = "when: {loss: rot}", "{not: plain}"
IS_WHEN, IS_VALUE = "`when` must be {key: value or list}, or a list", "rate must be a text, a number, true or false"

# {kind: (a text of the file, what stands there instead, where the message says it is, the message)}
DAMAGE = {
    # sections
    "null sections": (TOY_CONFIG, f"sections:\n{TIERS}", "sections", " must be a mapping, not empty"),
    "listed sections": (TOY_CONFIG, f"sections: []\n{TIERS}", "sections", " must be a mapping, not a list"),
    "a key beside": ("tiers:\n", "others: 3\ntiers:\n", "", "unknown key 'others'"),
    "a null section": ("sections:\n", "sections:\n  more:\n", r"sections\.more", " must be a mapping, not empty"),
    "a listed section": ("sections:\n", "sections:\n  more: [a]\n", r"sections\.more", " must be a .*not a list"),
    "a number as a section": ("sections:\n", "sections:\n  3: {}\n", "sections", ": 3 is an int to YAML"),
    "a key over two sections": ("    width:", "    rate:", r"sections\.teacher", ": 'rate' stands in another"),
    "a key that is true to YAML": ("    rate:", "    on:", r"sections\.training", ": True is a bool to YAML"),
    "a number as a key": ("    rate:", "    4:", r"sections\.training", ": 4 is an int to YAML"),
    "a stage that is no name": ("stage: teacher", "stage: [a]", r"sections\.teacher", ": `stage` must be the name"),
    "an empty stage": ("stage: teacher", "stage:", r"sections\.teacher", ": `stage` must be the name"),
    # conditions
    "when is a text": (WHEN, "when: rot", r"sections\.rot", f": {IS_WHEN}"),
    "when is a number": (WHEN, "when: 3", r"sections\.rot", f": {IS_WHEN}"),
    "when is null": (WHEN, "when:", r"sections\.rot", f": {IS_WHEN}"),
    "when is empty": (WHEN, "when: {}", r"sections\.rot", f": {IS_WHEN}"),
    "when lists nothing": (WHEN, "when: []", r"sections\.rot", f": {IS_WHEN}"),
    "when lists a text": (WHEN, "when: [rot]", r"sections\.rot", f": {IS_WHEN}"),
    "when with another word": (
        NOT,
        "{nor: plain}",
        r"sections\.tolerance",
        ": `when` of solver must be a value, a list,",
    ),
    "not within not": (NOT, "{not: {not: plain}}", r"sections\.tolerance\.when", ": solver must be like 'plain'"),
    "when of another type": (WHEN, "when: {loss: 3}", r"sections\.rot\.when", ": loss must be like 'kl'"),
    "when of no value": (WHEN, "when: {loss: []}", r"sections\.rot\.when", ": loss is compared with an empty list"),
    "when of an unknown key": (
        WHEN,
        "when: {los: rot}",
        r"sections\.rot\.when",
        ": unknown key 'los'; did you mean 'loss'",
    ),
    # values
    "a listed source": (RATE + SOURCE, f"{RATE}source: [4]", r"sections\.training", ": the source of rate must name"),
    "a text for a number": (
        RATE,
        "    rate: {value: 1e-4, ",
        r"sections\.training",
        ": rate is the text '1e-4' to YAML",
    ),
    "a date": (RATE, "    rate: {value: 2020-01-01, ", r"sections\.training", f": {IS_VALUE}"),
    "null": (RATE, "    rate: {value: null, ", r"sections\.training", f": {IS_VALUE}, .* not None"),
    "not a number": (RATE, "    rate: {value: .nan, ", r"sections\.training", f": {IS_VALUE}, .* not nan"),
    "null in a list": ("[1, 2]", "[1, null]", r"sections\.data", ": sizes must be a text, .* not None"),
    "a neutral text": (RATE, f"{RATE}neutral: no, ", r"sections\.training", ": rate must be like 0.1, .* not False"),
    # tiers
    "null tiers": (TIERS, "tiers:\n", "tiers", " must be a mapping, not empty"),
    "listed tiers": (TIERS, "tiers: [tiny]\n", "tiers", " must be a mapping, not a list"),
    "a null tier": (EXPERIMENTS, "", TINY, " must be a mapping, not empty"),
    "another null tier": ("tiers:\n", "tiers:\n  full:\n", r"tiers\.full", " must be a mapping, not empty"),
    "a tier that is a text": (TIERS, "tiers:\n  tiny: fast\n", TINY, " must be a mapping, not a str"),
    "a number as a tier": ("  tiny:", "  1:", "tiers", ": 1 is an int to YAML"),
    "listed settings": (EXPERIMENTS, f"    settings: [a]\n{EXPERIMENTS}", TINY, r"\.settings must be a mapping"),
    "seconds as a text": (EXPERIMENTS, f"    seconds: 9m\n{EXPERIMENTS}", TINY, ": `seconds` must be a number above 0"),
    "seconds with a source": (EXPERIMENTS, f"    seconds: {{value: 4}}\n{EXPERIMENTS}", TINY, ": `seconds` must be a"),
    "no seconds": (GRID, f"{GRID}\n        seconds: 0", ALL, ": `seconds` must be a number above 0, not 0"),
    "a null stand-in": (GRID, f"{GRID}\n        stand_in:", ALL, ": `stand_in` must be a text, not None"),
    "what differs as a number": (GRID, f"{GRID}\n        differs: 3", ALL, ": `differs` must be a text, not 3"),
    # experiments
    "null experiments": (EXPERIMENTS, "    experiments:\n", TINY, r"\.experiments must be a list of .*, not None"),
    "no experiment": (EXPERIMENTS, "    experiments: []\n", TINY, r"\.experiments must be a list of"),
    "experiments by name": (EXPERIMENTS, "    experiments: {a: {}}\n", TINY, r"\.experiments must be a list of"),
    "an experiment that is a text": (EXPERIMENTS, "    experiments: [a]\n", TINY, r".*\(number 1\) must be a mapping"),
    "an experiment without grid": (f"{GRID}\n", "", ALL, ": the key 'grid' is missing"),
    "an experiment without name": ("name: all", "set: {}", TINY, r".*\(number 1\): the key 'name' is missing"),
    "a name that is a number": ("name: all", "name: 4", TINY, r"\.experiments \(4\): `name` must be a text, not 4"),
    "a null grid": (GRID, "        grid:", ALL, r"\.grid must be a mapping, not empty"),
    "a listed grid": (GRID, "        grid: [loss]", ALL, r"\.grid must be a mapping, not a list"),
    "a listed set": (GRID, f"{GRID}\n        set: [loss]", ALL, r"\.set must be a mapping, not a list"),
    "an empty axis": ("seed: [0, 1]", "seed: []", ALL, r"\.grid: the list of seed is empty"),
    "a flat axis of lists": ("seed: [0, 1]", "sizes: [1, 2]", ALL, r"\.grid: sizes must be like \[1, 2\]"),
    "an axis of another type": ("[kl, rot]", "[kl, 3]", ALL, r"\.grid: loss must be like 'kl', a str, and not 3"),
    "a null axis": ("[kl, rot]", "", ALL, r"\.grid: loss must be a text, a number, .* not None"),
    "a text for a number in a grid": ("seed: [0, 1]", "rate: 1e-4", ALL, r"\.grid: rate is the text '1e-4' to YAML"),
}
NO_MAPPING = {
    "empty": (TOY_CONFIG, "", "must hold a mapping, not empty"),
    "a list": (TOY_CONFIG, "- a\n- b\n", "must hold a mapping, not a list"),
    "no YAML": (RATE, "    rate: {value: [0.1, ", r"is not YAML: .*line \d+"),
    "tabs": (RATE, f"\t{RATE}", r"is not YAML: .*line \d+"),
    "a list as a key": (
        "sections:",
        "? [a, b]\n: 1\nsections:",
        r"is not YAML: \['a', 'b'\] cannot be a key .*line \d+",
    ),
    "a key twice": (RATE, f"{RATE}source: s}}\n{RATE}", r"is not YAML: 'rate' is there twice.*line \d+"),
    "a section twice": ("  rot:\n", "  data:\n", r"is not YAML: 'data' is there twice.*line \d+"),
    "a value twice": (RATE, "    rate: {value: 1, value: 2, ", r"is not YAML: 'value' is there twice.*line \d+"),
    "sections twice": ("tiers:", "sections:", "is not YAML: 'sections' is there twice"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_with_its_place(toy_paper, kind):
    text, other, place, message = DAMAGE[kind]
    toy_paper.write((text, other))
    with pytest.raises(ConfigError, match=FILE + place + message):
        plan("toy", "tiny", toy_paper.root)


@pytest.mark.parametrize("kind", NO_MAPPING)
def test_a_file_that_is_no_mapping_is_refused_with_its_line(toy_paper, kind):
    text, other, message = NO_MAPPING[kind]
    toy_paper.write((text, other))
    with pytest.raises(ConfigError, match=rf"papers/toy/config\.yaml {message}"):
        plan("toy", "tiny", toy_paper.root)


def test_a_file_that_cannot_be_read_is_refused(toy_paper):
    (toy_paper.folder / "config.yaml").unlink()
    (toy_paper.folder / "config.yaml").mkdir()
    with pytest.raises(ConfigError, match=r"papers/toy/config\.yaml cannot be read: Is a directory"):
        plan("toy", "tiny", toy_paper.root)


@pytest.mark.parametrize("kind", ["null tiers", "a null tier", "null sections", "null experiments"])
def test_the_list_of_papers_of_a_tier_refuses_a_damaged_file_too(toy_paper, kind):
    text, other, place, message = DAMAGE[kind]
    toy_paper.write((text, other))
    with pytest.raises(ConfigError, match=FILE + place + message):
        papers_of("tiny", toy_paper.root)


def places(content, path=()):
    """Every place of a nested YAML content."""
    yield path
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def put(content, path, value):
    if not path:
        return value
    whole = inner = copy.deepcopy(content)
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return whole


WHOLE = yaml.safe_load(TOY_CONFIG)
WHOLE["tiers"]["tiny"]["settings"] = {"rate": {"value": 0.5, "source": "assumed: short"}}
WHOLE["tiers"]["tiny"]["experiments"][0]["set"] = {"epochs": {"value": 1, "source": "assumed: short"}}


@pytest.mark.parametrize(
    "value", [None, [], {}, "x", 3, -1.5, True, [None], {"a": None}, {"value": {}, "source": "s"}], ids=str
)
def test_whatever_stands_anywhere_is_understood_or_refused_by_name(toy_paper, value):
    """Each entry of the file in turn becomes something else: a plan comes out, or a ConfigError names the file."""
    refused = 0
    for path in places(WHOLE):
        toy_paper.write(config=json.dumps(put(WHOLE, path, value)))
        try:
            assert plan("toy", "tiny", toy_paper.root)
        except ConfigError as error:
            assert re.search(r"papers/toy/config\.yaml|^toy: ", str(error)), f"{path}: {error}"
            refused += 1
        except Exception as error:
            pytest.fail(f"{'.'.join(map(str, path))} = {value!r}: {type(error).__name__}: {error}")
    assert refused >= 50


@pytest.mark.parametrize("key", ["values", "keys", "but", "of", "section", "hash", "paper", "unread", "canonical"])
def test_a_name_that_a_spec_has_itself_is_refused(toy_paper, key):
    toy_paper.write(("    rate:", f"    {key}:"))
    with pytest.raises(ConfigError, match=FILE + rf"sections\.training: '{key}' cannot be the name of a value"):
        toy_paper.plan()


@pytest.mark.parametrize("key", ["a-b", "a b", "1a", "_rate", "__len__", "lambda", "class", ""])
def test_a_name_that_cannot_be_read_as_an_attribute_is_refused(toy_paper, key):
    toy_paper.write(("    rate:", f"    {key!r}:"))
    with pytest.raises(ConfigError, match=FILE + rf"sections\.training: '{key}' cannot be the name of a value"):
        toy_paper.plan()


def test_a_grid_axis_that_no_run_reads_is_refused_and_one_that_some_read_is_not(toy_paper):
    with pytest.raises(ConfigError, match=r"\(number 0\)\.grid: no run reads 'alpha'; it is where loss is 'rot'"):
        toy_paper.plan({"loss": "kl", "alpha": [0.1, 0.5]})
    runs = toy_paper.plan({"loss": ["kl", "rot"], "alpha": [0.1, 0.5]})
    assert [run.id.split("/")[2] for run in runs] == ["kl", "rot-alpha0.1", "rot-alpha0.5"]


def test_a_name_ends_in_what_of_the_grid_its_words_do_not_say(toy_paper):
    """What names.py reads is in the id; of the rest, what differs from the tier: a text bare, others with their key."""
    names = "def method(spec):\n    return spec.loss + ('-flat' if not spec.augment else '')\n\n\n"
    names += "def path(spec, method):\n    return f'{spec.dataset}/{method}/n{spec.epochs}'\n"
    toy_paper.write(names=names)
    grid = {
        "loss": "rot",
        "augment": [True, False],
        "epochs": [3, 5],
        "rate": [0.1, 1e-4],
        "solver": ["plain", "exact"],
    }
    runs = toy_paper.plan({**grid, "seed": 2, "alpha": 0.3})
    assert len(runs) == 16 and {run.spec.seed for run in runs} == {2}
    ids = [run.id.removeprefix("toy/moons/").removesuffix("/seed2") for run in runs]
    assert ids[:4] == ["rot/n3", "rot-exact/n3", "rot-rate0.0001/n3", "rot-rate0.0001-exact/n3"]
    assert ids[-1] == "rot-flat-rate0.0001-exact/n5"
    assert [run.method for run in runs][-1] == "rot-flat-rate0.0001-exact"
    (run,) = toy_paper.plan({"rate": 0.1, "loss": "kl"}, rate=0.7)
    assert run.id == "toy/moons/kl-rate0.1/n3/seed0", "it differs from the tier's value, not from the paper's"


def test_an_id_that_cannot_be_a_path_is_refused(toy_paper):
    with pytest.raises(ConfigError, match=r"the id 'toy/moons/kl-sizes\[3\]/seed0' cannot be a path; see names\.py"):
        toy_paper.plan({"sizes": [[3]]})
    with pytest.raises(ConfigError, match="the id 'toy/two moons/kl/seed0' cannot be a path"):
        toy_paper.plan({"dataset": "two moons"})


def test_names_that_read_what_does_not_hold_are_told_where_it_does(toy_paper):
    toy_paper.write(names="def method(spec):\n    return spec.alpha\n\n\ndef path(spec, method):\n    return method\n")
    with pytest.raises(ConfigError, match="toy: 'alpha' is read only where loss is 'rot', which is not so here"):
        toy_paper.plan()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rate", "fast", "rate must be like 0.1, a float, and not 'fast'"),
        ("rate", True, "rate must be like 0.1, a float, and not True"),
        ("augment", 1, "augment must be like True, a bool, and not 1"),
        ("sizes", 1, r"sizes must be like \[1, 2\], a list, and not 1"),
        ("loss", 1, "loss must be like 'kl', a str, and not 1"),
    ],
)
def test_a_setting_of_another_type_is_refused(toy_paper, key, value, message):
    with pytest.raises(ConfigError, match=rf"config\.yaml: tiers\.tiny\.settings: {message}"):
        toy_paper.plan(**{key: value})


def test_numbers_may_be_whole_or_not_and_lists_are_one_point(toy_paper):
    runs = toy_paper.plan({"rate": [1, 0.5]}, sizes=[7])
    assert [(run.spec.rate, run.spec.sizes) for run in runs] == [(1, [7]), (0.5, [7])]
    assert [run.id.split("/")[2] for run in runs] == ["kl-rate1", "kl-rate0.5"]


def test_merged_mappings_are_not_taken_for_doubled_keys(toy_paper):
    merged = (
        "grid: &all {loss: [kl, rot], seed: [0, 1]}\n      - name: more\n        grid: {<<: *all, seed: 2, rate: 0.5}"
    )
    toy_paper.write((GRID.strip(), merged))
    assert [run.id.split("/", 2)[2] for run in toy_paper.plan()][4:] == ["kl-rate0.5/seed2", "rot-rate0.5/seed2"]


def test_the_sections_come_with_their_sources(toy_paper):
    config = read_config("toy", toy_paper.root)
    assert config.values["rate"] == 0.1 and config.sources["rate"] == "Section 4.1"
    assert list(config.values) == list(config.sources) == config.layout.known()
