# Two commands: `make run` builds everything and runs every notebook, `make test` proves it.
# README gives the plain commands behind all of it, for those without make.

ifdef CONDA_PREFIX
PLACE := $(CONDA_PREFIX)
else
PLACE := .venv
endif
PYTHON := $(PLACE)/bin/python
READY := $(PLACE)/.cma-all
TESTED := $(PLACE)/.cma-test
BOOK := $(PLACE)/.cma-book

.PHONY: run cost test fast minis notebooks explore book browser pictures bench clean

run: cost minis ## environment, offline benchmarks, every notebook by papermill into runs/notebooks, results table
	$(PYTHON) notebooks/run.py --replace --jobs 2
	$(PYTHON) -m experiments report

cost:
	@test -e $(READY) || echo "installs Python packages: 2.1 GB, and 4.5 GB more where pip's torch brings CUDA (README says how to avoid it)"
	@test -d data/mini-msrvtt || echo "fetches 750 MB of open drawings into the cache and builds 210 MB in data/"
	@echo "then runs every notebook: about 20 minutes on two cores"

test: $(TESTED) ## lint, fast suite, wheel, offline benchmarks, the book, notebooks at tiny size, a browser, papermill reruns
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/test.yml .github/workflows/book.yml
	$(PYTHON) -m pytest -q -m "not minis and not wheel and not processes and not slow and not book" -n auto
	$(PYTHON) -m pytest -q -m "processes or slow" -n 2 --dist loadfile
	$(PYTHON) -m pytest -q -m wheel
	$(PYTHON) -m data_prep mini
	$(PYTHON) -m pytest -q -m book
	$(PYTHON) -m pytest -q -m "minis and not browser"
	$(PYTHON) notebooks/run.py --tiny --replace --prepare-only --out runs/ci
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -q -n 2 --dist loadfile --nbval-lax --nbval-cell-timeout 600 -p no:cacheprovider runs/ci notebooks/02_adapter_anatomy.ipynb
	$(PYTHON) -m pytest -q -m "browser and not book"
	$(PYTHON) notebooks/run.py --tiny --replace --out runs/rerun 03 04 -p seed 7 -y 'overrides: {epochs: 1, lr: 0.002}'

fast: $(TESTED) ## the fast suite alone: neither network nor offline benchmarks
	$(PYTHON) -m pytest -q -m "not minis and not wheel and not processes and not slow and not book" -n auto

minis: $(READY) ## the offline benchmarks, built only when missing
	$(PYTHON) -m data_prep mini

notebooks: minis ## run every notebook; executed copies into notebooks/, records, tables and figure too
	$(PYTHON) notebooks/run.py --replace --commit
	$(PYTHON) -m experiments report --keep results --readme README.md results/README.md
	$(PYTHON) notebooks/figures/gains.py

explore: $(if $(MEDIA),$(READY),minis) ## the explorer as a page of its own; MEDIA=~/pictures searches your own
	$(PYTHON) -m explorer $(if $(MEDIA),--media "$(MEDIA)")

book: $(BOOK) ## the website, into docs/_build/html; with the page "Try it" where `make minis` was run
	$(PYTHON) docs/build.py

browser: $(TESTED) ## a Chromium for the browser tests, if there is none
	$(PYTHON) tests/explorer/browser/chromium.py

pictures: $(TESTED) minis ## README's pictures of the explorer, after `make run`
	$(PYTHON) -m pytest -q tests/explorer/browser/readme_pictures.py

bench: $(TESTED) minis ## figures of time and memory, as JSON: more than half an hour, on two cores that should be quiet
	$(PYTHON) -m tests.bench

.DELETE_ON_ERROR: # an environment that is made by halves is made again

ifndef CONDA_PREFIX
BASE ?= python3
.venv/bin/python:
	$(BASE) -c "import sys; (3, 11) <= sys.version_info or sys.exit('found Python %d.%d, expected 3.11 or newer: add BASE=python3.12, or whichever you have' % sys.version_info[:2])"
	$(BASE) -m venv .venv
$(READY) $(TESTED) $(BOOK): .venv/bin/python
endif

$(PLACE)/.cma-%: pyproject.toml # `make run` needs the extra `all`, `make test` needs `test`, and `make book` needs `book`
	$(PYTHON) -m pip install --upgrade --quiet pip
	$(PYTHON) -m pip install --quiet --editable ".[$*]"
	$(PYTHON) -c "import cma"
	touch $@

clean: ## what can be built again
	rm -rf .venv data runs docs/_build
