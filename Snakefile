# Regenerates every table and figure of a tier: snakemake all --cores
from snakemake.utils import min_version

min_version("9.20")


include: "workflows/common.smk"
include: "workflows/data.smk"
include: "workflows/papers.smk"
include: "workflows/report.smk"


report: caption(
    "workflow",
    "Every table and figure of this tier, and every number and claim of the papers beside what was reproduced.",
    "**Reported beside reproduced** holds the verdicts. A folder for each paper holds its figures and tables. What stands in "
    "for a paper's data or network is named under each figure and table; what was not run is shown as NOT RUN.",
    BEFORE.records() if BEFORE else "",
)


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


onsuccess:
    after = status(TIER)
    print(f"Results of tier {TIER.tier}: {RESULTS}; all on one page: {RESULTS}/report.html.", file=sys.stderr)
    print(f"Trained now: {max(0, after.here - BEFORE.here)} runs. {after.records()}", file=sys.stderr)
    print(f"Reported beside reproduced: python -m shared.comparison --tier {TIER.tier}", file=sys.stderr)
