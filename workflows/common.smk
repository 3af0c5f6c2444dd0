# Shared by all rules: the tier, its papers and what each makes, the code each rule runs, the first lines a person reads.
import os
import sys
from pathlib import Path

sys.path.insert(0, workflow.basedir)

from snakemake.utils import validate


workdir: workflow.basedir


from shared.config import ConfigError, default_tier, load_tier, papers, papers_of, plan, tiers
from shared.config.complete import lacking, stamp
from shared.config.files import check_keys, nearest, read_yaml
from shared.config.outputs import read_outputs
from shared.config.tiers import number_of_shards
from shared.datasets.absent import OPTIONAL, at_hand, forget_untrue, is_prepared, note_on
from shared.datasets.recipes import RECIPES
from shared.files import remove_parts, write_text
from shared.runs.code import sources
from shared.runs.data import data_read
from shared.runs.machine import cores, devices_of, overlooked
from shared.runs.status import status, unfinished
from shared.runs.sweep import keep_index, runs_folder, runs_to_try_again, train_again

if Path.cwd() != Path(workflow.basedir).resolve():
    raise WorkflowError(f"call Snakemake without --directory: the workflow runs in {workflow.basedir}")

if workflow.is_main_process:
    remove_parts(Path(workflow.basedir, ".work"))  # of calls that were killed

try:
    check_keys(config, read_yaml(Path(workflow.basedir, "config/schema.yaml"))["properties"], "--config")
    validate(config, "../config/schema.yaml")
    TIER = load_tier(config.get("tier") or default_tier())
    COMPLETE, LOOKED_AT = Path(workflow.basedir, ".work", "complete.txt"), stamp()  # when nothing was lacking; now
    if not COMPLETE.exists() or COMPLETE.read_text(encoding="utf-8") != LOOKED_AT:
        if FORGOTTEN := [sentence for paper in papers() for sentence in lacking(paper)]:
            raise WorkflowError("\n".join(FORGOTTEN))
        write_text(COMPLETE, LOOKED_AT)
    PAPERS = papers_of(TIER.tier)
    LEFT_OUT = [paper for paper in papers() if paper not in PAPERS]
    OUTPUTS = {paper: read_outputs(paper) for paper in PAPERS}
    SHARDS = number_of_shards(config.get("shards", TIER.shards), "--config")
    AGAIN = str(config.get("again", "")).lower() == "true"
    # Of the papers that are asked for by name, or of all: those of others keep their records for a later call.
    NAMED = [paper for paper in PAPERS if any(f"{arg}_".startswith(f"{paper}_") for arg in sys.argv[1:])] or PAPERS
    BEFORE = status(TIER, NAMED if AGAIN else ()) if workflow.is_main_process else None
    COMPLETE_PAPERS = BEFORE.complete if BEFORE else []
    CLUSTER = workflow.nodes is not None  # jobs go to other machines, with other devices
    # Of a training job: all that are visible here, which its sweep uses at once; one elsewhere, where profiles may say.
    GPUS, UNSEEN = int(TIER.device != "cpu"), []
    if workflow.is_main_process and not CLUSTER:
        GPUS = sum(device != "cpu" for device in devices_of(TIER.device))
        workflow.global_resources.setdefault("gpu", GPUS)  # unless --resources gpu=N
        named = config.get("tier") or os.environ.get("LLP_TIER")
        UNSEEN = [overlooked(TIER.device if named else "auto")]
except ConfigError as error:
    raise WorkflowError(str(error))

RESULTS = f"results/{TIER.tier}"
# Of a training job. On a cluster, where Snakemake limits no sum of cores, --cores is what each job has.
CORES = workflow.global_resources["_cores"].value or (8 if CLUSTER else cores())
if workflow.remote_exec:  # there --cores is what the machine has, maybe more than the job was given
    CORES = int(os.environ.get("LLP_CORES", CORES))
os.environ |= {"LLP_TIER": TIER.tier, "LLP_CORES": str(CORES)}  # of all jobs: another machine has other devices


envvars:
    "LLP_TIER",
    "LLP_CORES",


if AGAIN:
    train_again()


def code(*modules):
    """The files a module runs, as inputs: Snakemake does not follow imports."""
    files = {path for module in modules for path in sources(module)}
    return sorted(str(path.relative_to(workflow.basedir)) for path in files)


def computing(module):
    """The files that a training run computes with, as inputs; what carries specs and records is none of them."""
    return sorted(str(path.relative_to(workflow.basedir)) for path in sources(module, carriers=False))


def data_of(paper):
    """The prepared data a paper's tier trains on, by manifests small enough to be compared by content, not by time.

    Of a dataset that may be absent, the note that says whether it is there. Not `ancient`: where such an input is made
    again, Snakemake 9 leaves out all that stands on it.
    """
    found = []
    for name, features in data_read(plan(paper, TIER.tier)):
        if name in OPTIONAL:
            if workflow.is_main_process:
                forget_untrue(name, Path(workflow.basedir))
            found.append(note_on(name, features))
        elif name in RECIPES:  # others are drawn by the run itself, or looked for by it
            found += [f"{DATA}/{name}/manifest.json"] + features * [f"{DATA}/features/{name}/manifest.json"]
    return found


def gone(paper):
    """A file, as an input: it changes when records were deleted or changed since they were made, answer another plan than
    today's, runs have failed or were not come to, could not be made for want of a dataset that is there now, or are to be
    made again, and only then.

    As a parameter the list would change back after training, and ask for one training more. What was written and never
    trained from, by a dry run or before an edit was undone, is taken back: Snakemake compares such a file by its content.
    """
    note = Path(workflow.basedir, ".work", TIER.tier, paper, "gone.txt")
    before = note.with_name("gone.before.txt")
    if not workflow.is_main_process:  # a job of a shard would see what others are at
        return str(note.relative_to(workflow.basedir))
    keep_index(paper, TIER.tier)
    names = {run.spec.values().get("dataset") for run in plan(paper, TIER.tier)} - {None}
    ready = [name for name in names if (is_prepared if name in RECIPES else at_hand)(name)]
    lost = sorted({*runs_to_try_again(paper, TIER.tier, ready), *BEFORE.outdated[paper]})
    lost += ["all, again"] if AGAIN and paper in NAMED else []
    index = runs_folder(paper, TIER.tier) / "index.csv"
    made = index.stat().st_mtime_ns if index.exists() else None
    trained = made is None or not note.exists() or note.stat().st_mtime_ns <= made  # since the note was written
    if lost:
        if trained:
            write_text(before, note.read_text(encoding="utf-8") if note.exists() else "")
        write_text(note, "" if made is None else f"{made}\n{lost}\n")
    elif not note.exists():
        write_text(note, "")
    elif not trained and before.exists():
        write_text(note, before.read_text(encoding="utf-8"))
    return str(note.relative_to(workflow.basedir))


def caption(name, *paragraphs):
    """A file with the words that the report shows beside a figure or a page, made from what outputs.yaml says."""
    path = Path(workflow.basedir, ".work", "report", TIER.tier, f"{name}.rst")
    text = "\n\n".join(filter(None, paragraphs)) + "\n"
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return str(path)


if workflow.is_main_process and "--report" not in sys.argv:
    print(
        f"Tier {TIER.tier}: {TIER.says}.",
        BEFORE.records(),
        f"To train: {BEFORE.outlook(CLUSTER)}; data that is not there yet comes on top.",
        *filter(None, UNSEEN),
        *(
            [f"Left out, for want of the tier {TIER.tier} in their config.yaml: {', '.join(LEFT_OUT)}."]
            if LEFT_OUT
            else []
        ),
        f"Another tier: snakemake all --cores --config tier=NAME, one of {', '.join(tiers())}. Anew: --config again=true.",
        sep="\n",
        file=sys.stderr,
    )
