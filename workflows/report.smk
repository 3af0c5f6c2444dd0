# Reported beside reproduced, for every paper; the answers, and the one page that shows everything.
ANSWERED = ""
if "--report" in sys.argv:  # only then verdicts are there, and only there they are shown
    from shared.report.answer import questions_in

    ANSWERED = questions_in(Path(RESULTS))
OVERVIEW = caption(
    "workflow",
    "Every table and figure of this tier, and every number and claim of the papers beside what was reproduced.",
    ANSWERED,
    "**Everything** is the page of this tier: every verdict with its control and its records, every table and figure. A "
    "folder for each paper holds its figures. What stands in for a paper's data or network, and how its protocol differs, "
    "is named under each of them, as is what still moved where training ended; what was not run is shown as NOT RUN.",
    BEFORE.records() if BEFORE else "",
)
VERDICTS = [f"{RESULTS}/{paper}/{name}" for paper in PAPERS for name in ("comparison.csv", "claims.csv", "behind.json")]
ANSWERS = ["results/README.md"] if TIER.tier != "smoke" else []  # smoke checks the workflow and answers nothing


rule comparison:
    input:
        f"{RESULTS}/{{paper}}/runs/index.csv",
        "papers/{paper}/reported.csv",
        "papers/{paper}/claims.yaml",
        "papers/{paper}/config.yaml",
        "papers/{paper}/names.py",
        f"config/{TIER.tier}.yaml",
        "data/sources.csv",
        lambda wildcards: computing(f"papers.{wildcards.paper}.train"),
        lambda wildcards: code("shared.comparison.__main__", f"papers.{wildcards.paper}.tables"),
    output:
        f"{RESULTS}/{{paper}}/comparison.csv",
        f"{RESULTS}/{{paper}}/claims.csv",
        f"{RESULTS}/{{paper}}/comparison.md",
        f"{RESULTS}/{{paper}}/behind.json",
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


rule answers:
    input:
        VERDICTS,
        expand(f"{RESULTS}/{{paper}}/claims.svg", paper=PAPERS),
        expand("papers/{paper}/claims.yaml", paper=PAPERS),
        verified=sorted(map(str, Path("results").glob("*/verified.csv"))),
        code=code("shared.report.answer"),
    output:
        "results/README.md",
    log:
        f"{RESULTS}/logs/answers.log",
    localrule: True
    conda:
        "../environment.yml"
    # The parts between marks in the READMEs are made anew, too.
    shell:
        "python -m shared.report.answer 2>&1 | tee {log}; touch {output}"


rule page:
    input:
        PRODUCTS,
        VERDICTS,
        ANSWERS,
        readme=expand("papers/{paper}/README.md", paper=PAPERS),
        outputs=expand("papers/{paper}/outputs.yaml", paper=PAPERS),
        looks=expand("shared/report/templates/{name}", name=["index.html", "page.css", "page.js"]),
        code=code("shared.report.page"),
    output:
        report(
            f"{RESULTS}/index.html",
            caption=caption(
                "page",
                "Every number of the papers beside what was reproduced, with its verdict, every claim beside the control that "
                "the paper left out, every table and figure, and from each number the records it rests on. A verdict on a "
                "stand-in, on a simulation or under another protocol says so.",
            ),
            category="Everything",
            labels={"what": "Page"},
        ),
    log:
        f"{RESULTS}/logs/page.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        tier=TIER.tier,
    shell:
        "python -m shared.report.page --tier {params.tier} 2>&1 | tee {log}"


rule results:
    input:
        f"{RESULTS}/index.html",


rule report:
    input:
        f"{RESULTS}/index.html",
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
