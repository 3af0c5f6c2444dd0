# Reported beside reproduced, for every paper, and the one page that shows everything.
OVERVIEW = caption(
    "workflow",
    "Every table and figure of this tier, and every number and claim of the papers beside what was reproduced.",
    "**Reported beside reproduced** holds the verdicts. A folder for each paper holds its figures and tables. What stands "
    "in for a paper's data or network, and how its protocol differs, is named under each figure and table, as is what "
    "still moved where training ended; what was not run is shown as NOT RUN.",
    BEFORE.records() if BEFORE else "",
)


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
    localrule: True
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    # Exit status 1 says that comparable records contradict a claim of the paper: a result, not a failure.
    shell:
        "(python -m shared.comparison {wildcards.paper} --tier {params.tier} || [ $? -eq 1 ]) 2>&1 | tee {log}"


rule comparison_page:
    input:
        text=f"{RESULTS}/{{paper}}/comparison.md",
        code=code("shared.tables.page"),
    output:
        report(
            f"{RESULTS}/{{paper}}/comparison.html",
            caption=caption(
                "comparison",
                "Every number of the paper beside what was reproduced, with its verdict, and every claim beside the control that "
                "the paper left out. How many are judged stands first, with the reasons why others are not. A verdict on a "
                "stand-in, on a simulation or under another protocol says so.",
            ),
            category="Reported beside reproduced",
            labels={"what": "{paper}"},
        ),
    log:
        f"{RESULTS}/logs/{{paper}}_comparison_page.log",
    localrule: True
    conda:
        "../environment.yml"
    shell:
        "python -m shared.tables.page {output} {input.text} 2>&1 | tee {log}"


rule results:
    input:
        PRODUCTS,
        expand(f"{RESULTS}/{{paper}}/comparison.html", paper=PAPERS),


rule report:
    input:
        rules.results.input,
        outputs=expand("papers/{paper}/outputs.yaml", paper=PAPERS),
    output:
        f"{RESULTS}/report.html",
    log:
        f"{RESULTS}/logs/report.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    shell:
        "python -m snakemake results --report {output} --nolock --cores 1 --config tier={params.tier} > {log} 2>&1"


# Snakemake says of a misspelt target only that no rule produces it, and nothing here is told what the targets are.
for typed in sys.argv[1:] * workflow.is_main_process:
    names = [rule.name for rule in workflow.rules]
    close = nearest(typed, names, 0.8) if typed.isidentifier() else None
    if close and typed not in names:
        raise WorkflowError(f"There is no rule {typed!r}; did you mean {close!r}?")
