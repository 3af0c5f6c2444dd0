# Shared by all rules: the tier, the code each one runs, and the first lines a person reads.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.utils import validate

from shared.datasets.absent import OPTIONAL, at_hand, forget_untrue, is_prepared, note_on
from shared.datasets.recipes import RECIPES
from shared.records import ConfigError, default_tier, load_tier, papers_of, sources, specs, tiers
from shared.records.config import check_keys, read_yaml
from shared.records.store import write_text
from shared.records.sweep import missing_records, outlook, runs_to_try_again

try:
    check_keys(config, read_yaml(Path(workflow.basedir, "config/schema.yaml"))["properties"], "--config")
    validate(config, "../config/schema.yaml")
    TIER = load_tier(config.get("tier") or default_tier())
    OUTLOOK = outlook(TIER)
except ConfigError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{TIER.tier}"

PAPERS = papers_of(TIER)

# paper: {"figures": {name: title}, "tables": names with csv and md, "curves": names with csv only}; see papers.smk.
MADE = {}
# What all papers' rules make; the report shows it, and `all` asks for the report.
PRODUCTS = []


def code(*modules):
    """The files a module runs, as inputs: Snakemake does not follow imports."""
    files = {path for module in modules for path in sources(module)}
    return sorted(str(path.relative_to(workflow.basedir)) for path in files)


def data_of(paper):
    """The prepared data a paper's tier trains on, by manifests small enough to be compared by content, not by time.

    Of a dataset that may be absent, the note that says whether it is there. Not `ancient`: where such an input is made
    again, Snakemake 9 leaves out all that stands on it.
    """
    needed = {(spec["dataset"], spec.get("network") == "patch_features") for spec in specs(paper, TIER.tier)}
    found = []
    for name, features in sorted(needed):
        if name in OPTIONAL:
            if workflow.is_main_process:
                forget_untrue(name, Path(workflow.basedir))
            found.append(note_on(name, features))
        elif name in RECIPES:  # others are drawn by the run itself, or looked for by it
            found += [f"{DATA}/{name}/manifest.json"] + features * [f"{DATA}/features/{name}/manifest.json"]
    return found


def gone(paper):
    """A file, as an input: it changes when records were deleted since they were made, or could not be made for want of
    a dataset that is there now, and only then.

    As a parameter the list would change back after training, and ask for one training more.
    """
    note = Path(workflow.basedir, ".work", TIER.tier, paper, "gone.txt")
    names = {spec["dataset"] for spec in specs(paper, TIER.tier)}
    ready = [name for name in names if (is_prepared if name in RECIPES else at_hand)(name)]
    lost = missing_records(paper, TIER.tier) + runs_to_try_again(paper, TIER.tier, ready)
    if lost or not note.exists():
        index = Path(workflow.basedir, RESULTS, paper, "runs/index.csv")
        write_text(note, f"{index.stat().st_mtime_ns}\n{lost}\n" if lost else "")
    return str(note.relative_to(workflow.basedir))


if workflow.is_main_process and "--report" not in sys.argv:
    print(
        f"Tier {TIER.tier}: {TIER.says}.",
        f"Estimated time: {OUTLOOK}; data that is not there yet comes on top.",
        f"Another tier: snakemake all --cores --config tier=NAME, one of {', '.join(tiers())}.",
        sep="\n",
        file=sys.stderr,
    )
