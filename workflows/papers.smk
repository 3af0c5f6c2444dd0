# The rules of every paper: train, tables, figures, tables as a page. MADE says what each one's scripts write.
for paper, made in MADE.items():
    if paper not in PAPERS:  # this tier is of others
        continue
    where = f"{RESULTS}/{paper}"
    tables = expand(f"{where}/{{name}}.md", name=made["tables"])
    numbers = expand(f"{where}/{{name}}.csv", name=[*made["curves"], *made["tables"]])

    rule:
        name:
            paper
        input:
            f"{where}/runs/index.csv",
            tables,
            numbers,
            expand(f"{where}/{{name}}.{{kind}}", name=made["figures"], kind=["svg", "png"]),
            f"{where}/comparison.csv",

    rule:
        name:
            f"{paper}_train"
        input:
            data_of(paper),
            plan=[f"papers/{paper}/config.yaml", f"papers/{paper}/plan.py", f"config/{TIER.tier}.yaml"],
            code=code(f"papers.{paper}.train"),
            gone=gone(paper),
        output:
            f"{where}/runs/index.csv",
        log:
            f"{RESULTS}/logs/{paper}_train.log",
        conda:
            "../environment.yml"
        threads: workflow.cores
        resources:
            gpu=int(TIER.device != "cpu"),
        params:
            paper=paper,
            tier=TIER.tier,
        shell:
            "python -m shared.records.sweep --paper {params.paper} --tier {params.tier} --cores {threads} 2>&1 | tee {log}"

    rule:
        name:
            f"{paper}_tables"
        input:
            f"{where}/runs/index.csv",
            code=code(f"papers.{paper}.tables"),
        output:
            tables,
            numbers,
            f"{where}/metrics.json",
        log:
            f"{RESULTS}/logs/{paper}_tables.log",
        conda:
            "../environment.yml"
        params:
            module=f"papers.{paper}.tables",
            tier=TIER.tier,
        shell:
            "python -m {params.module} {params.tier} 2>&1 | tee {log}"

    rule:
        name:
            f"{paper}_figures"
        input:
            numbers,
            code=code(f"papers.{paper}.figures"),
        output:
            expand(f"{where}/{{name}}.png", name=made["figures"]),
            [
                report(
                    f"{where}/{name}.svg", caption=f"report/{paper}_{name}.rst", category=paper, labels={"what": what}
                )
                for name, what in made["figures"].items()
            ],
        log:
            f"{RESULTS}/logs/{paper}_figures.log",
        conda:
            "../environment.yml"
        params:
            module=f"papers.{paper}.figures",
            tier=TIER.tier,
        shell:
            "python -m {params.module} {params.tier} 2>&1 | tee {log}"

    rule:
        name:
            f"{paper}_page"
        input:
            tables,
            code=code("shared.records.page"),
        output:
            report(
                f"{where}/tables.html",
                caption=f"report/{paper}_tables.rst",
                category=paper,
                labels={"what": "Tables"},
            ),
        log:
            f"{RESULTS}/logs/{paper}_page.log",
        conda:
            "../environment.yml"
        params:
            tables=tables,
        shell:
            "python -m shared.records.page {output} {params.tables} 2>&1 | tee {log}"

    PRODUCTS += [[f"{where}/runs/index.csv", tables, numbers, f"{where}/comparison.csv", f"{where}/tables.html"]]
    PRODUCTS += [expand(f"{where}/{{name}}.{{kind}}", name=made["figures"], kind=["svg", "png"])]
