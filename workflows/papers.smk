# The rules of every paper, from its outputs.yaml: NAME, NAME_train, NAME_tables and NAME_figures.
PRODUCTS = []  # what all of them make; the page and the report show it

for paper in PAPERS:
    made, where = OUTPUTS[paper], f"{RESULTS}/{paper}"
    figures = [figure.name for figure in made.figures]
    tables = expand(f"{where}/{{name}}.md", name=made.text())
    numbers = expand(f"{where}/{{name}}.csv", name=made.csv())

    rule:
        name:
            paper
        input:
            f"{where}/runs/index.csv",
            tables,
            numbers,
            expand(f"{where}/{{name}}.{{kind}}", name=figures, kind=["svg", "png"]),
            f"{where}/comparison.csv",

    learned_from = {
        "data": data_of(paper),
        "plan": [f"papers/{paper}/config.yaml", f"papers/{paper}/names.py", f"config/{TIER.tier}.yaml"],
        "code": computing(f"papers.{paper}.train"),
        "gone": gone(paper),
    }
    # Exit status 3 says that runs failed, and so does the index: tables are made of the rest, and the end names them.
    if SHARDS == 1:

        rule:
            name:
                f"{paper}_train"
            input:
                **learned_from,
            output:
                f"{where}/runs/index.csv",
            log:
                f"{RESULTS}/logs/{paper}_train.log",
            conda:
                "../environment.yml"
            threads: 1 if paper in COMPLETE_PAPERS else CORES  # it trains nothing: other jobs go beside it
            resources:
                gpu=GPUS,
            params:
                paper=paper,
                tier=TIER.tier,
            shell:
                "(python -m shared.runs.sweep --paper {params.paper} --tier {params.tier} --cores {threads}"
                " || [ $? -eq 3 ]) 2>&1 | tee {log}"

    else:

        rule:
            name:
                f"{paper}_shard"
            input:
                **learned_from,
            output:
                f".work/{TIER.tier}/{paper}/trained/{{shard}}-of-{SHARDS}.txt",
            log:
                f"{RESULTS}/logs/{paper}_shard{{shard}}.log",
            conda:
                "../environment.yml"
            threads: 1 if paper in COMPLETE_PAPERS else CORES  # it trains nothing: other jobs go beside it
            resources:
                gpu=GPUS,
            params:
                paper=paper,
                tier=TIER.tier,
                shards=SHARDS,
            shell:
                "(python -m shared.runs.sweep --paper {params.paper} --tier {params.tier} --cores {threads}"
                " --shard {wildcards.shard}/{params.shards} || [ $? -eq 3 ]) 2>&1 | tee {log}; date > {output}"

        rule:
            name:
                f"{paper}_train"
            input:
                expand(f".work/{TIER.tier}/{paper}/trained/{{n}}-of-{SHARDS}.txt", n=range(1, SHARDS + 1)),
            output:
                f"{where}/runs/index.csv",
            log:
                f"{RESULTS}/logs/{paper}_train.log",
            localrule: True
            conda:
                "../environment.yml"
            params:
                paper=paper,
                tier=TIER.tier,
            shell:
                "python -m shared.runs.sweep --paper {params.paper} --tier {params.tier} --gather 2>&1 | tee {log}"

    rule:
        name:
            f"{paper}_tables"
        input:
            f"{where}/runs/index.csv",
            outputs=f"papers/{paper}/outputs.yaml",
            plan=learned_from["plan"],
            trained=learned_from["code"],
            code=code(f"papers.{paper}.tables"),
        output:
            tables,
            numbers,
            f"{where}/notes.json",
            f"{RESULTS}/metrics/{paper}.json",
            f"{RESULTS}/plots/{paper}.csv" if made.plot else [],
        log:
            f"{RESULTS}/logs/{paper}_tables.log",
        localrule: True
        conda:
            "../environment.yml"
        params:
            module=f"papers.{paper}.tables",
            tier=TIER.tier,
        shell:
            "python -m {params.module} --tier {params.tier} 2>&1 | tee {log}"

    rule:
        name:
            f"{paper}_figures"
        input:
            numbers,
            f"{where}/notes.json",
            f"{where}/comparison.csv",
            f"{where}/claims.csv",
            outputs=f"papers/{paper}/outputs.yaml",
            code=code(f"papers.{paper}.figures"),
        output:
            expand(f"{where}/{{name}}.png", name=figures),
            [
                report(
                    f"{where}/{figure.name}.svg",
                    caption=caption(f"{paper}_{figure.name}", figure.caption or figure.title),
                    category=paper,
                    labels={"what": figure.title},
                )
                for figure in made.figures
            ],
        log:
            f"{RESULTS}/logs/{paper}_figures.log",
        localrule: True
        conda:
            "../environment.yml"
        params:
            module=f"papers.{paper}.figures",
            tier=TIER.tier,
        shell:
            "python -m {params.module} --tier {params.tier} 2>&1 | tee {log}"

    PRODUCTS += [[f"{where}/runs/index.csv", tables, numbers, f"{where}/comparison.csv", f"{where}/notes.json"]]
    PRODUCTS += [expand(f"{where}/{{name}}.{{kind}}", name=figures, kind=["svg", "png"])]


for paper in LEFT_OUT:

    rule:
        name:
            paper
        localrule: True
        params:
            said=f"{paper} has no tier {TIER.tier} in its config.yaml: nothing to do",
            folder=f"{RESULTS}/{paper}",
        shell:
            "mkdir -p {params.folder}; echo '{params.said}' >&2"
