# Shared by all rules: the tier, the code each one runs, and the first lines a person reads.
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.utils import validate

from shared.records import ConfigError, default_tier, load_tier, sources, specs, tiers
from shared.records.config import check_keys, read_yaml
from shared.records.store import write_text
from shared.records.sweep import missing_records, outlook

try:
    check_keys(config, read_yaml(Path(workflow.basedir, "config/schema.yaml"))["properties"], "--config")
    validate(config, "../config/schema.yaml")
    TIER = load_tier(config.get("tier") or default_tier())
    OUTLOOK = outlook(TIER)
except ConfigError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{TIER.tier}"

PAPERS = sorted(path.parent.name for path in Path(workflow.basedir, "papers").glob("*/claims.yaml"))

# Each paper's rules add what they make; the report shows it, and `all` asks for the report.
PRODUCTS = []


def code(*modules):
    """The files a module runs, as inputs: Snakemake does not follow imports."""
    files = {path for module in modules for path in sources(module)}
    return sorted(str(path.relative_to(workflow.basedir)) for path in files)


def data_of(paper):
    """The prepared data a paper's tier trains on; ancient, for the records pin it by checksum."""
    found = set()
    for spec in specs(paper, TIER.tier):
        kind = "features/" if spec.get("network") == "patch_features" else ""
        if spec["dataset"] != "random":
            found.add(f"{DATA}/{kind}{spec['dataset']}/manifest.json")
    return [ancient(path) for path in sorted(found)]


def gone(paper):
    """A file, as an input: it changes when records were deleted since they were made, and only then.

    As a parameter the list would change back after training, and ask for one training more.
    """
    note = Path(workflow.basedir, ".work", TIER.tier, paper, "gone.txt")
    lost = missing_records(paper, TIER.tier)
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
