"""Figures as their readers see them: without colour vision, in grey, with a bar cut at 0, and with nothing to show."""

import base64
import functools
import io
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pandas
import pytest
from PIL import Image

from papers.ece import figures as ece
from papers.vp_dsd import figures as vp_dsd
from shared import plotting
from shared.comparison import claims
from shared.comparison.judging import ClaimVerdict
from shared.comparison.writing import CELLS, CLAIMS, claim_rows
from shared.config import plan
from shared.config.outputs import JUDGED
from shared.plotting.styles import COLOURS, STYLES
from shared.tables import draw, judged

plt = plotting.plt
DEUTERANOPIA = np.array(  # of linear RGB, severity 1 (Machado, Oliveira & Fernandes 2009)
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
# A marker of 3 points is .15 degrees wide on a page at 40 cm, where half of people notice 5.1 + .75 / .15, that is 10,
# of lightness, and more of hue (Stone, Szafir & Setlur 2014); with hue, twice that is asked for.
GREY, COLOUR = 10, 20


@functools.cache
def lab(colour, seen=True):
    """CIE L*a*b* of a hex colour, as seen or as with deuteranopia."""
    part = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(linear if seen else DEUTERANOPIA @ linear, 0, 1) / np.array([0.95047, 1, 1.08883])
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def colours_differ(one, other):
    """Whether two colours are told apart under deuteranopia (CIE76) and in grey (lightness)."""
    return np.linalg.norm(lab(one, False) - lab(other, False)) >= COLOUR and abs(lab(one)[0] - lab(other)[0]) >= GREY


def told_apart(one, other):
    """Whether two methods are, by their colour, or else by marker and dashes both."""
    one, other = plotting.method_style(one), plotting.method_style(other)
    if colours_differ(one["color"], other["color"]):
        return True
    return one["marker"] != other["marker"] and one["linestyle"] != other["linestyle"]


def in_one_panel(paper, tier):
    """Sets of the methods that a panel of a paper shows."""
    drawn = SimpleNamespace(runs=plan(paper, tier))
    plain = {run.method for run in drawn.runs if run.method == run.spec.values().get("loss")}
    if paper == "ece":
        for task in ("segmentation", "detection"):
            names = {run.method for run in drawn.runs if run.spec.task == task}
            yield set(ece._without_variants(pandas.DataFrame({"method": sorted(names)}), drawn).method)
    elif paper == "plot":
        for stage in {run.method for run in drawn.runs if "+" not in run.method}:
            yield {stage, f"{stage}+continued", f"{stage}+sce+hard", "llp_vat_exact", "supervised"}
    elif paper == "vp_dsd":
        yield {run.spec.loss for run in vp_dsd._learned(drawn)}
    else:
        yield plain


@pytest.mark.parametrize("tier", ["quick", "gpu"])
@pytest.mark.parametrize("paper", ["rot", "mle_llp", "plot", "vp_dsd", "ece"])
def test_methods_of_a_panel_are_told_apart_without_colour_vision_and_in_grey(paper, tier):
    for methods in in_one_panel(paper, tier):
        pairs = itertools.combinations(sorted(methods), 2)
        assert len(methods) > 2 and [pair for pair in pairs if not told_apart(*pair)] == []


def test_any_two_colours_differ_and_so_do_those_of_what_is_no_method():
    assert all(colours_differ(*pair) for pair in itertools.combinations(COLOURS.values(), 2))
    assert not colours_differ("#de8f05", "#d55e00")  # DLLP and MLE-LLP as they were
    looks = [(style["color"], style["marker"]) for style in plotting.CYCLE]
    assert len(set(looks)) == len(looks) == len(COLOURS)


def test_a_method_looks_the_same_everywhere_and_one_that_nobody_knows_has_a_look():
    assert plotting.method_style("kl") == plotting.method_style("dllp")  # the same loss
    assert plotting.method_style("llp_new+sce+hard") == plotting.method_style("plot")
    variant, new = plotting.method_style("kl-gan"), plotting.method_style("new")
    assert variant["color"] == plotting.method_style("kl")["color"] and variant != plotting.method_style("kl")
    assert new == plotting.method_style("new") and new["color"] in COLOURS.values()
    assert {colour for colour, _, _ in STYLES.values()} <= set(COLOURS)


def test_bars_end_where_the_measure_does():
    """A DICE of .01 with a deviation of .05 was drawn down to -.04."""
    figure, axis = plt.subplots()
    one = pandas.Series([0.01, 0.98])
    plotting.error_bars(axis, pandas.Series([1, 2]), one, pandas.Series([0.05, np.nan]), (0, 1))
    low, high = axis.containers[0].lines[2][0].get_segments()[0][:, 1]
    assert low == 0 and high == pytest.approx(0.06)
    plt.close(figure)


def test_what_a_paper_reports_is_hollow_and_in_the_legend():
    figure, axis = plt.subplots()
    axis.plot([1, 2], [1, 2], label="ours", **plotting.method_style("rot"))
    plotting.mark_reported(axis, [1, 2], [3, 4], ["paper", "paper, other network"], plotting.method_style("rot"))
    plotting.legend_above(figure)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "paper", "paper, other network"]
    assert [line.get_markerfacecolor() for line in axis.lines[1:]] == ["none", "none"]
    plt.close(figure)


def test_a_note_makes_the_figure_taller_and_leaves_the_panels_their_room():
    figure, _ = plt.subplots(figsize=(3.4, 2))
    plotting.left_out(figure, ["group photos"])
    before = figure.get_figheight()
    plotting.note(figure, "Tier quick. " + "a long story of what stands in " * 10)
    assert figure.get_figheight() > before > 2
    said = " ".join(figure.get_supxlabel().split())
    assert said.startswith("Tier quick.") and said.endswith("NOT RUN and so not shown: group photos.")
    plt.close(figure)


def test_names_of_points_cover_neither_each_other_nor_points():
    plotting.use_style()
    figure, axis = plt.subplots(figsize=(6.9, 4))
    points, names = [(1, 1), (1.01, 1), (1.02, 1.01), (2, 2)], ["first", "second", "third of all", "far"]
    axis.scatter(*zip(*points, strict=True))
    plotting.name_points(axis, points, names, [0.0] * 4)
    figure.draw_without_rendering()
    boxes = [plt.Text.get_window_extent(text) for text in axis.texts]  # without their lines
    assert len(boxes) == 4 and not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    plt.close(figure)


def test_images_in_a_svg_are_small_and_the_same_every_time(tmp_path):
    """The page with all figures is opened by hand and mailed."""
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    plotting.use_style()
    texts = []
    for name in ("one", "other"):
        figure, axis = plt.subplots()
        axis.imshow(image, interpolation="none")
        plotting.save_figure(figure, tmp_path / name)
        texts.append((tmp_path / f"{name}.svg").read_bytes())
    assert texts[0] == texts[1] and len(texts[0]) < 20_000 < image.size * 4 / 3 + 4096


def test_an_image_of_few_colours_keeps_them(tmp_path):
    """Seventeen shades of a map of differences became twelve, and points above zero were drawn as below it."""
    shades = np.linspace(0, 255, 17, dtype=np.uint8).repeat(8).reshape(17, 8)
    image = np.stack([shades, 255 - shades, shades // 2], -1)
    figure, axis = plt.subplots()
    axis.imshow(image, interpolation="none")
    plotting.save_figure(figure, tmp_path / "few")
    (packed,) = plotting.IMAGE.findall((tmp_path / "few.svg").read_text())
    kept = np.asarray(Image.open(io.BytesIO(base64.b64decode(packed))).convert("RGB")).reshape(-1, 3)
    assert {tuple(map(int, colour)) for colour in kept} == {tuple(map(int, colour)) for colour in image.reshape(-1, 3)}


def cell(**other):
    known = dict.fromkeys(CELLS, "") | {
        "table": "t",
        "row": "kl",
        "column": "n=1",
        "metric": "accuracy",
        "selection": "last",
    }
    return known | {"reported": 90.0, "ours": 80.0, "sd": 1.0, "verdict": "NOT REPRODUCED"} | other


def claim(**other):
    known = dict.fromkeys(CLAIMS, "") | {"role": "paper", "kind": "greater", "region_low": 0.0, "region_high": np.inf}
    return known | {"estimate": 2.0, "low90": 1.0, "high90": 3.0, "verdict": "HOLDS"} | other


@pytest.fixture
def folder(tmp_path):
    def write(cells=(), made=()):
        pandas.DataFrame(cells, columns=CELLS).to_csv(tmp_path / "comparison.csv", index=False)
        pandas.DataFrame(made, columns=CLAIMS).to_csv(tmp_path / "claims.csv", index=False)
        return draw.Drawn("rot", "smoke", tmp_path)

    return write


def words(figure):
    """All text of a figure."""
    texts = [text.get_text() for text in figure.findobj(plt.Text)]
    plt.close(figure)
    return " ".join(" ".join(texts).split())


def test_reported_numbers_stand_on_a_diagonal_filled_where_comparable(folder):
    unlike = cell(row="rot", verdict="NOT COMPARABLE", why="a stand-in: a perceptron")
    figure = judged.reported(folder([cell(), unlike, cell(row="avgkl", ours="", verdict="NOT RUN")]))
    faces = [line.get_markerfacecolor() for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert sorted(face == "none" for face in faces) == [False, True]
    said = words(figure)
    assert "Hollow, 1 of 2: not comparable (a stand-in: a perceptron)." in said
    assert "1 of 3 reported numbers were not run" in said


def test_numbers_far_apart_have_a_logarithmic_diagonal(folder):
    figure = judged.reported(
        folder([cell(reported=0.5, ours=0.4), cell(reported=1, ours=1), cell(reported=300, ours=90)])
    )
    assert figure.axes[0].get_xscale() == "symlog" == figure.axes[0].get_yscale()
    plt.close(figure)


def test_claims_stand_beside_their_bound_and_their_controls_in_grey(folder):
    made = [
        claim(id="better", control="its-control", setting="on a stand-in", verdict="HOLDS on a stand-in"),
        claim(id="its-control", role="control", estimate=-1.0, low90=-2.0, high90=0.5, verdict="INCONCLUSIVE"),
        claim(id="half", kind="ratio", estimate=2.0, low90=1.5, high90=2.5, region_low=0, region_high=0.5)
        | {"verdict": "CONTRADICTED"},
        claim(id="alike", kind="within", estimate=0.5, region_low=-1, region_high=1, low90="", high90=""),
        claim(id="never", estimate="", low90="", high90="", verdict="NOT RUN"),
    ]
    figure = judged.claims(folder(made=made))
    axis = figure.axes[0]
    assert [text.get_text() for text in axis.get_yticklabels()] == ["better", "half", "alike"]
    points = {line.get_ydata()[0]: line for line in axis.lines if len(line.get_xdata()) == 1}
    at = {height: float(line.get_xdata()[0]) for height, line in points.items()}
    assert at[-0.12] == pytest.approx(2 / 3) and at[0.3] == pytest.approx(-0.5)
    assert at[1] == pytest.approx(-np.log(4) / np.log(5)) and at[2] == 1
    assert points[0.3].get_color() == "0.6" and points[-0.12].get_markerfacecolor() == "white"
    said = words(figure)
    assert all(text in said for text in ("2 [1.5, 2.5], at most 0.5", "2 [1, 3], above 0", "0.5, within [-1, 1]"))
    assert said.count("never") == 1 and "so not shown: never" in said


def test_what_keeps_a_claim_of_several_comparisons_from_holding_is_drawn_and_counted(folder):
    """A red cross deep on the claim's side contradicted nothing that was drawn."""
    several = {"cells": 24, "cells_hold": 11, "weakest": "dataset=cifar10, loss=llp_vat: -1.0 [-1.5, -0.7]"}
    made = [
        claim(id="all", verdict="CONTRADICTED", **several),
        claim(id="half", kind="ratio", region_low=0.0, region_high=0.5, verdict="INCONCLUSIVE", cells=2, cells_hold=0)
        | {"estimate": 2.0, "low90": 1.5, "high90": 2.5, "weakest": "method=dllp: 4 [3, 5]"},
        claim(id="undone", reservation="but its control does not", verdict="HOLDS", cells=2, cells_hold=2),
    ]
    figure = judged.claims(folder(made=made))
    ticks = {line.get_ydata()[0]: line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() == "|"}
    assert ticks == {0: pytest.approx(-1 / 3), 1: pytest.approx(-1)}
    said = words(figure)
    assert "2 [1, 3], above 0 (11/24)" in said and "2 [1, 3], above 0 (2/2) \u2020" in said
    assert "\u2020: a control takes away" in said and "keeps it from holding" in said


def test_the_legend_of_all_kinds_of_verdicts_lies_inside_the_figure(folder):
    kinds = [*judged.VERDICTS, "HOLDS on a stand-in"]
    made = [
        claim(id=name, verdict=name, setting=name.partition(" on ")[2], cells=2, cells_hold=1, weakest="a: 1 [0, 2]")
        for name in kinds
    ]
    figure = judged.claims(folder(made=made))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    plt.close(figure)


@pytest.mark.parametrize("output", JUDGED, ids=lambda output: output.name)
def test_what_is_not_there_is_a_line_of_text(output, folder, tmp_path):
    """A paper may report no number and claim nothing; figures may be drawn before anything is compared."""
    made = getattr(judged, output.name)
    assert "yet." in words(made(draw.Drawn("rot", "smoke", tmp_path)))
    assert "yet." in words(made(folder()))
    assert "NOT RUN" in words(made(folder([cell(ours="")], [claim(id="a", estimate="", verdict="NOT RUN")])))


@pytest.mark.parametrize(
    ("verdict", "why", "says"),
    [
        ("REPRODUCED", "", "paper"),
        ("NOT COMPARABLE", "a stand-in: a perceptron; another protocol: 5 epochs", "paper, other network"),
        ("NOT COMPARABLE", "a stand-in: tissue; simulated data: tissue_sim", "paper, other data"),
        ("NOT COMPARABLE", "another protocol: 5 epochs", "paper, other protocol"),
        ("NOT RUN", "not trained yet", "paper, not run here"),
    ],
)
def test_a_reported_number_says_how_far_it_is_comparable(folder, verdict, why, says):
    drawn = folder([cell(verdict=verdict, why=why), cell(table="other")])
    assert drawn.reported("t").says.tolist() == [says]


def test_the_bounds_of_a_ratio_are_ratios():
    """They were its logarithms."""
    entry = {"id": "a", "says": "s", "source": "s", "kind": "ratio", "at_most": 0.5, "because": "b"}
    made = claims._claim({**entry, "left": {"method": "a"}, "right": {"method": "b"}}, "here")
    comparison = SimpleNamespace(claims=[(made, ClaimVerdict("HOLDS", ""))], kept=[None], controls={}, tier="smoke")
    (row,) = claim_rows(comparison)
    assert (row["region_low"], row["region_high"]) == (0, pytest.approx(0.5)) and list(row.keys() ^ set(CLAIMS)) == []


def test_text_is_readable_at_its_printed_size():
    plotting.use_style()
    sizes = {
        name: value for name, value in plt.rcParams.items() if re.search("(label|legend.font|font.|title)size$", name)
    }
    sizes = {name: value for name, value in sizes.items() if isinstance(value, int | float)}
    assert len(sizes) > 4 and min(sizes.values()) >= plotting.TEXT == 8


def test_what_several_tables_say_stands_once_under_their_figure():
    said = f"Tier quick. 0 of 114{draw.MOVED} Tier quick. 2 of 75{draw.MOVED} Stand-ins: a."
    assert draw._once(said) == f"Tier quick. Stand-ins: a. 0 of 114 and 2 of 75{draw.MOVED}"


def test_a_legend_has_as_many_entries_in_each_row_as_it_can():
    """Five entries in four columns left one alone in the second row."""
    figure, axis = plt.subplots(figsize=(plotting.PAGE, 2))
    for name in ("AvgKL", "KL", "ROT", "chance", "paper, other network"):
        axis.plot([0, 1], [0, 1], marker="o", label=name)
    plotting.legend_above(figure)
    assert figure.legends[0]._ncols == 3
