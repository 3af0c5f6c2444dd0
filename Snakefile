# Regenerates every table and figure of a tier: snakemake all --cores
from snakemake.utils import min_version

min_version("9.20")


report: "workflows/report/workflow.rst"


include: "workflows/common.smk"
include: "workflows/data.smk"
include: "workflows/rot.smk"
include: "workflows/mle_llp.smk"
include: "workflows/plot.smk"
include: "workflows/vp_dsd.smk"
include: "workflows/ece.smk"
include: "workflows/papers.smk"
include: "workflows/report.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",


onsuccess:
    print(f"Results of tier {TIER.tier}: {RESULTS}; all on one page: {RESULTS}/report.html.", file=sys.stderr)
    print(f"Reported beside reproduced: python -m shared.comparison --tier {TIER.tier}", file=sys.stderr)
