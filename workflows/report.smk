# Reported beside reproduced, for every paper, and the one page that shows everything.
for paper in PAPERS:
    if not any(rule.name == f"{paper}_train" for rule in workflow.rules):
        raise WorkflowError(f"Snakefile: include workflows/{paper}.smk before workflows/papers.smk")


rule comparison:
    input:
        f"{RESULTS}/{{paper}}/runs/index.csv",
        "papers/{paper}/reported.csv",
        "papers/{paper}/claims.yaml",
        lambda wildcards: code("shared.comparison.__main__", f"papers.{wildcards.paper}.tables"),
    output:
        f"{RESULTS}/{{paper}}/comparison.csv",
        f"{RESULTS}/{{paper}}/claims.csv",
        f"{RESULTS}/{{paper}}/comparison.md",
    log:
        f"{RESULTS}/logs/{{paper}}_comparison.log",
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    # Exit status 1 says that a claim is contradicted: a result, not a failure.
    shell:
        "(python -m shared.comparison {wildcards.paper} --tier {params.tier} || [ $? -eq 1 ]) 2>&1 | tee {log}"


rule comparison_page:
    input:
        text=f"{RESULTS}/{{paper}}/comparison.md",
        code=code("shared.records.page"),
    output:
        report(
            f"{RESULTS}/{{paper}}/comparison.html",
            caption="report/comparison.rst",
            category="Reported beside reproduced",
            labels={"what": "{paper}"},
        ),
    log:
        f"{RESULTS}/logs/{{paper}}_comparison_page.log",
    conda:
        "../environment.yml"
    shell:
        "python -m shared.records.page {output} {input.text} 2>&1 | tee {log}"


rule results:
    input:
        PRODUCTS,
        expand(f"{RESULTS}/{{paper}}/comparison.html", paper=PAPERS),


rule report:
    input:
        rules.results.input,
        captions=sorted(str(path) for path in Path("workflows/report").glob("*.rst")),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    shell:
        "python -m snakemake results --report {output} --nolock --cores 1 --config tier={params.tier} > {log} 2>&1"
