# Datasets, and features cached from them. A manifest is written last, so that it stands for the whole folder.
from shared.datasets import data_root
from shared.runs.machine import cores

DATA = (
    os.path.relpath(data_root(), workflow.basedir) if data_root().is_relative_to(workflow.basedir) else str(data_root())
)
# Of one job, which Snakemake gives the cores of the machine, of which a container may have a part.
PREPARING = CORES if CLUSTER else min(CORES, cores())
# Data that others prepared may be read-only: nothing can be made again there, however new this clone's code is.
CACHING = [] if data_root().exists() and not os.access(data_root(), os.W_OK) else code("shared.training.features")


rule dataset:
    input:
        sources=ancient("data/sources.csv"),
    output:
        f"{DATA}/{{name}}/manifest.json",
    log:
        f"{RESULTS}/logs/dataset_{{name}}.log",
    localrule: True
    conda:
        "../environment.yml"
    shell:
        "python -m shared.datasets fetch {wildcards.name} 2>&1 | tee {log}"


rule features:
    input:
        f"{DATA}/{{name}}/manifest.json",
        code=CACHING,
    output:
        f"{DATA}/features/{{name}}/manifest.json",
    log:
        f"{RESULTS}/logs/features_{{name}}.log",
    conda:
        "../environment.yml"
    threads: PREPARING
    shell:
        "python -m shared.training.features {wildcards.name} --threads {threads} 2>&1 | tee {log}"


ruleorder: features > dataset


rule optional_dataset:
    input:
        sources=ancient("data/sources.csv"),
    output:
        ".work/data/{name}.txt",
    log:
        f"{RESULTS}/logs/dataset_{{name}}.log",
    wildcard_constraints:
        name=r"\w+",
    localrule: True
    conda:
        "../environment.yml"
    shell:
        "python -m shared.datasets fetch {wildcards.name} --if-any {output} 2>&1 | tee {log}"


rule optional_features:
    input:
        note=".work/data/{name}.txt",
        code=CACHING,
    output:
        ".work/data/features/{name}.txt",
    log:
        f"{RESULTS}/logs/features_{{name}}.log",
    wildcard_constraints:
        name=r"\w+",
    conda:
        "../environment.yml"
    threads: PREPARING
    shell:
        "if grep -qx ready {input.note}; then"
        " python -m shared.training.features {wildcards.name} --threads {threads} 2>&1 | tee {log};"
        " fi; cp {input.note} {output}"
