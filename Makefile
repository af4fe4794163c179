# Two commands: `make run` builds everything and runs every notebook, `make test` proves it.
# README gives the plain commands behind all of it, for those without make.

# The project's own conda environment (environment.yml) is used if it is active; any other stays as it is.
ifeq ($(CONDA_DEFAULT_ENV),cma)
PLACE := $(CONDA_PREFIX)
else
PLACE := .venv
endif
PYTHON := $(PLACE)/bin/python
READY := $(PLACE)/.cma-all
TESTED := $(PLACE)/.cma-test
BOOK := $(PLACE)/.cma-book

.PHONY: run cost test fast nightly minis notebooks explore book browser pictures bench clean

run: cost minis ## environment, offline benchmarks, every notebook by papermill into runs/notebooks, results table
	$(PYTHON) notebooks/run.py --replace --jobs 2
	$(PYTHON) -m experiments report

cost:
	@test -e $(READY) || echo "installs Python packages: 2.2 GB, and 4.5 GB more where pip's torch brings CUDA (README says how to avoid it)"
	@test -d data/mini-msrvtt || echo "fetches 750 MB of open drawings into the cache and builds 190 MB in data/"
	@echo "then runs every notebook: about 8 minutes on two cores"

test: $(TESTED) ## lint, tests, notebooks at tiny size, the book, a browser; ends with the seconds of each stage
	$(PYTHON) tests/stages.py

fast: $(TESTED) ## the fast tests alone: neither network nor offline benchmarks
	$(PYTHON) tests/stages.py fast

nightly: $(TESTED) ## the tests that take long: rehearsals, most kills, most damage, the bare install
	$(PYTHON) tests/stages.py nightly

minis: $(READY) ## the offline benchmarks, built only when missing
	$(PYTHON) -m data_prep mini

notebooks: minis ## run every notebook; executed copies into notebooks/, records, tables and figure too
	$(PYTHON) notebooks/run.py --replace --commit
	$(PYTHON) -m experiments report --keep results --readme README.md results/README.md
	$(PYTHON) notebooks/figures/gains.py

explore: $(if $(MEDIA),$(READY),minis) ## the explorer as a page of its own; MEDIA=~/pictures searches your own
	$(PYTHON) -m explorer $(if $(MEDIA),--media "$(MEDIA)")

book: $(BOOK) ## the website, into docs/_build/html
	$(PYTHON) docs/build.py

browser: $(TESTED) ## a Chromium for the browser tests, if there is none
	$(PYTHON) tests/explorer/browser/chromium.py

pictures: $(TESTED) minis ## README's pictures of the explorer, after `make run`
	$(PYTHON) -m pytest -q tests/explorer/browser/readme_pictures.py

bench: $(TESTED) minis ## figures of time and memory, as JSON: more than half an hour, on two cores that should be quiet
	$(PYTHON) -m tests.bench

.DELETE_ON_ERROR: # an environment that is made by halves is made again

ifeq ($(PLACE),.venv)
BASE ?= python3
.venv/bin/python:
	$(BASE) -c "import sys; sys.version_info >= (3, 11) or sys.exit('found Python %d.%d, expected 3.11 or newer: add BASE=python3.12, or whichever you have' % sys.version_info[:2])"
	$(BASE) -m venv .venv
$(READY) $(TESTED) $(BOOK): .venv/bin/python
endif

$(PLACE)/.cma-%: pyproject.toml # `make run` needs the extra `all`, `make test` needs `test`, and `make book` needs `book`
	$(PYTHON) -m pip install --upgrade --quiet pip
	$(PYTHON) -m pip install --quiet --editable ".[$*]"
	$(PYTHON) -c "import cma"
	touch $@

clean: ## what is built again soon; trainings (runs/) and offline benchmarks (data/) stay
	rm -rf .venv docs/_build
