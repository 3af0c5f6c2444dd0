# Regenerates every table and figure of a tier: snakemake all --cores
from snakemake.utils import min_version, validate

min_version("9.20")


report: "workflows/report/workflow.rst"


include: "workflows/common.smk"
include: "workflows/data.smk"
include: "workflows/rot.smk"
include: "workflows/report.smk"


rule all:
    default_target: True
    input:
        f"{RESULTS}/report.html",
