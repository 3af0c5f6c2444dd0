"""A made paper in a made repository, and its records: what tests of the comparison stand on."""

import csv
import io

from shared.comparison import __main__ as cli
from shared.comparison import report
from shared.config import plan
from shared.records import store

TABLES = """
def cells(rows):
    rows = rows[rows["metric"] == "accuracy"]
    column = "n=" + rows["bag_size"].astype(int).astype(str)
    return rows.assign(table="t1", row=rows["method"], column=column)[
        ["table", "row", "column", "metric", "selection", "seed", "value", "id"]
    ]
"""
REPORTED = """table,row,column,metric,value,spread,spread_kind,n,margin,source,selection
t1,kl,n=4,accuracy,80,.3,std,5,,Table 1,last
t1,kl,n=8,accuracy,70,.3,std,5,,Table 1,last
t1,kl,n=16,accuracy,60,.3,std,5,,Table 1,last
"""
CLAIMS = """
- id: order
  says: KL beats ROT.
  source: Section 4
  kind: greater
  where: {bag_size: 4}
  left: {method: kl}
  right: {method: rot}
"""
KL, ROT = [80.1, 79.9, 80.0], [75.0, 75.3, 75.1]
PAPER = "  paper: &all\n"


CONFIG = """
sections:
  all:
    dataset: {value: toy, source: Section 4}
    loss: {value: kl, source: Section 4}
    bag_size: {value: 4, source: Section 4}
    seed: {value: 0, source: "assumed: one run"}
tiers:
  paper: &all
    experiments:
      - {name: kl, grid: {bag_size: [4, 8], seed: [0, 1, 2]}}
      - {name: rot, grid: {loss: rot, bag_size: [4, 8], seed: [0, 1, 2]}}
  quick: *all
"""
NAMES = """
def method(spec):
    return spec.loss

def path(spec, method):
    return f"{spec.dataset}/{method}/bag{spec.bag_size}"
"""


def build(tmp_path, monkeypatch):
    """A repository with one paper, `made`, and an empty results folder; call it as the command line."""
    paper = tmp_path / "papers" / "made"
    paper.mkdir(parents=True)
    files = {
        "tables.py": TABLES,
        "reported.csv": REPORTED,
        "claims.yaml": CLAIMS,
        "config.yaml": CONFIG,
        "names.py": NAMES,
    }
    for name, text in files.items():
        (paper / name).write_text(text)
    (tmp_path / "config").mkdir()
    for tier in ("gpu", "paper", "quick", "smoke"):
        (tmp_path / "config" / f"{tier}.yaml").write_text(f"{{tier: {tier}, says: for a test}}")
    monkeypatch.setattr(report, "code_hash", lambda module, root: "now")
    monkeypatch.delenv("LLP_TIER", raising=False)

    def call(*argv):
        return cli.main([*argv, "--results", str(tmp_path / "results")], root=tmp_path)

    call.root, call.paper, call.results = tmp_path, paper, tmp_path / "results"
    return call


def fill(house, runs, tier="paper", code="now", bag_size=4, git=None, **more):
    """Write one record per seed of each `method: values`, at one bag size; `more` is in all, `git` in their code."""
    planned = {run.id: run for run in plan("made", tier, house.root)}
    for method, values in runs.items():
        for seed, value in enumerate(values):
            run = planned[f"made/toy/{method}/bag{bag_size}/seed{seed}"]
            record = {
                "id": run.id,
                "spec": run.spec.canonical(),
                "spec_hash": run.spec_hash,
                "code": {"hash": code, "commit": "0123456789", "dirty": False, **(git or {})},
                "metrics": {"last": {"accuracy": value}},
                "cost": {"wall_s": 2.0, "train_s": 1.5},
                "environment": {"device": "cpu"},
                "finished": "2026-01-01T00:00:00",
                **{key: value(seed) if callable(value) else value for key, value in more.items()},
            }
            store.write_record(house.results / tier / "made" / "runs", record)


def change(house, before, after):
    """Edit the paper's config.yaml."""
    text = (house.paper / "config.yaml").read_text()
    assert before in text
    (house.paper / "config.yaml").write_text(text.replace(before, after))


def written(house, name="comparison.csv", tier="paper"):
    return list(csv.DictReader(io.StringIO((house.results / tier / "made" / name).read_text())))


def page_of(house, tier="paper"):
    return (house.results / tier / "made/comparison.md").read_text()
