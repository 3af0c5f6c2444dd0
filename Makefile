# Five replications: `make reproduce`. Needs Python 3.11 or 3.12 (PYTHON=... names one), git and make.

# Apple's make heeds an exported PATH only in a shell that is not its default one.
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Where a container sets it, every process would compile anew all that it imports, for seconds each.
unexport PYTHONDONTWRITEBYTECODE

# Any Python that runs will do for the set-up itself, which finds the right one or says what is wrong.
ANY_PYTHON = $(or $(shell for python in $(PYTHON) python3.12 python3.11 $$(type -aP python3); do \
	"$$python" -c "" 2>/dev/null && echo "$$python" && break; done),$(error Python 3.11 or 3.12 is needed and PATH has none))

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' Makefile

setup:  ## make .venv from requirements/lock.txt; does nothing when it is up to date
	@$(ANY_PYTHON) workflows/setup.py

reproduce: setup  ## every table and figure of the default tier, and the comparison with the papers
	snakemake all --cores

test: setup  ## the tests
	python -m pytest -n 2 --dist loadfile

verify: setup  ## train a sample of every paper's committed records again and compare, two minutes
	python -m shared.runs.verify --sample 3

faults: setup  ## kill the workflow a hundred times and compare
	LLP_KILLS=100 python -m pytest tests/workflow/test_faults.py

fuzz: setup  ## damage files of every kind that is read, five minutes
	python -m tests.fuzz --seconds 300

device: setup  ## train every kind of run on a pretend device that is not the CPU, five minutes
	LLP_EVERY=1 python -m pytest -n 2 tests/contract/test_paper_tier.py

slurm: setup  ## training in shards on a Slurm of this machine (Debian: slurm-wlm, munge), five minutes
	.work/uv/bin/uv pip install --quiet --python .venv/bin/python --require-hashes -r requirements/slurm.txt
	LLP_SLURM=1 python -m pytest -rs tests/workflow/test_slurm.py

bench: setup  ## speed and memory beside other libraries, with PEERS=1 beside more of them; committed numbers stay
	$(if $(PEERS),.work/uv/bin/uv pip install --quiet --python .venv/bin/python \
		--no-deps --require-hashes -r requirements/bench.txt)
	python -m benchmarks

lint: setup  ## style and types of the code, style of the workflow
	ruff check
	ruff format --check
	snakefmt --check Snakefile workflows
	snakemake --lint
	mypy

adopt: setup  ## take the committed results as they are, so that only what changes from here is made anew
	snakemake --touch --forceall all --cores 1

lock:  ## resolve requirements/*.in into the hashed requirements/*.txt
	@$(ANY_PYTHON) workflows/setup.py --lock

sbom: setup  ## docs/licences.md, and the packages and data as CycloneDX in .work/sbom.cdx.json
	python -m workflows.inventory --licences --sbom .work/sbom.cdx.json

audit: setup  ## known vulnerabilities of the locked packages; asks a public service, names no machine
	.work/uv/bin/uv tool run pip-audit --strict --require-hashes --disable-pip -r requirements/lock.txt

.PHONY: help setup reproduce test verify faults fuzz device slurm bench lint adopt lock sbom audit
