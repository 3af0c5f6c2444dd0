# Regenerates every table and figure of a tier: snakemake all --cores
from snakemake.utils import min_version

min_version("9.20")


include: "workflows/common.smk"
include: "workflows/data.smk"
include: "workflows/papers.smk"
include: "workflows/report.smk"


report: OVERVIEW


rule all:
    default_target: True
    input:
        f"{RESULTS}/index.html",
        f"{RESULTS}/report.html",


onsuccess:
    after = status(TIER)
    page = f"; all on one page: {RESULTS}/index.html" if Path(RESULTS, "index.html").exists() else ""
    print(f"Results of tier {TIER.tier}: {RESULTS}{page}.", file=sys.stderr)
    print(f"Trained now: {max(0, after.here - BEFORE.here)} runs. {after.records()}", file=sys.stderr)
    print(f"Reported beside reproduced: python -m shared.comparison --tier {TIER.tier}", file=sys.stderr)
    # Of the papers that were asked for; those of others may wait for another day.
    asked = {job.rule.name for job in workflow.dag.jobs}
    if left := unfinished(TIER.tier, [paper for paper in PAPERS if f"{paper}_train" in asked]):
        raise WorkflowError(left)
