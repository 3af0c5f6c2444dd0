# Deep multi-class learning from label proportions (Dulac-Arnold et al. 2019).
ROT = f"{RESULTS}/rot"
ROT_FIGURES = ["fig1", "fig2"]
ROT_TABLES = ["fig2", "alpha", "controls", "equations"]


rule rot:
    input:
        f"{ROT}/runs/index.csv",
        expand(f"{ROT}/{{name}}.{{kind}}", name=ROT_FIGURES, kind=["svg", "png", "csv"]),
        expand(f"{ROT}/{{name}}.{{kind}}", name=ROT_TABLES, kind=["csv", "md"]),
        f"{ROT}/comparison.csv",


rule rot_train:
    input:
        data_of("rot"),
        plan=["papers/rot/config.yaml", "papers/rot/plan.py", f"config/{TIER.tier}.yaml"],
        code=code("papers.rot.train"),
        gone=gone("rot"),
    output:
        f"{ROT}/runs/index.csv",
    log:
        f"{RESULTS}/logs/rot_train.log",
    conda:
        "../environment.yml"
    threads: workflow.cores
    resources:
        gpu=int(TIER.device != "cpu"),
    params:
        tier=TIER.tier,
    shell:
        "python -m shared.records.sweep --paper rot --tier {params.tier} --cores {threads} 2>&1 | tee {log}"


rule rot_tables:
    input:
        f"{ROT}/runs/index.csv",
        code=code("papers.rot.tables"),
    output:
        f"{ROT}/fig1.csv",
        expand(f"{ROT}/{{name}}.{{kind}}", name=ROT_TABLES, kind=["csv", "md"]),
        f"{ROT}/metrics.json",
    log:
        f"{RESULTS}/logs/rot_tables.log",
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    shell:
        "python -m papers.rot.tables {params.tier} 2>&1 | tee {log}"


rule rot_figures:
    input:
        expand(f"{ROT}/{{name}}.csv", name=ROT_FIGURES),
        code=code("papers.rot.figures"),
    output:
        expand(f"{ROT}/{{name}}.png", name=ROT_FIGURES),
        report(f"{ROT}/fig1.svg", caption="report/rot_fig1.rst", category="rot", labels={"what": "Figure 1"}),
        report(f"{ROT}/fig2.svg", caption="report/rot_fig2.rst", category="rot", labels={"what": "Figure 2"}),
    log:
        f"{RESULTS}/logs/rot_figures.log",
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    shell:
        "python -m papers.rot.figures {params.tier} 2>&1 | tee {log}"


rule rot_page:
    input:
        expand(f"{ROT}/{{name}}.md", name=ROT_TABLES),
        code=code("shared.records.page"),
    output:
        report(f"{ROT}/tables.html", caption="report/rot_tables.rst", category="rot", labels={"what": "Tables"}),
    log:
        f"{RESULTS}/logs/rot_page.log",
    conda:
        "../environment.yml"
    params:
        tables=expand(f"{ROT}/{{name}}.md", name=ROT_TABLES),
    shell:
        "python -m shared.records.page {output} {params.tables} 2>&1 | tee {log}"


PRODUCTS += [rules.rot.input, rules.rot_page.output]
