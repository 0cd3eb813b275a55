# make book   set up, run every notebook, write figures/ and the HTML book (build/html/index.html)
# make test   set up, run the quick tests; make test-slow runs the others, make test-all both
# make check-code   style, spelling and types
# make lab    set up, open JupyterLab on notebooks/
# make html   the HTML book again, from the notebooks that were run last
# make student  notebooks for a class, without solutions; make slides   the lecture, one HTML file
# make grade SUBMISSIONS=folder   grade what students handed in, one folder each
# make check  is this machine ready for a lab? Says so in a minute; sets nothing up
# make experiments   the recorded runs themselves: hours; says how many first, stops and goes on
# make proof-11b   the 11B model's architecture through every stage, on a CPU with 24 GB: an hour
# make gpu-check   what to run first on a machine with a GPU; MODEL=folder: the real 11B weights
# make clean  remove everything that was built, the virtual environment included; never a run
#
# Any Python from 3.11 will do: make book PYTHON=/path/to/python3

CANDIDATES := $(PYTHON) python3.11 python3.12 python3.13 python3 python
FOUND := $(shell for p in $(if $(PYTHON),$(PYTHON),$(CANDIDATES)); do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo "$$p" && break; done)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
GRADING := $(VENV)/.grading
JUPYTER_ETC := $(VENV)/etc/jupyter

.DELETE_ON_ERROR:
.PHONY: book test test-slow test-all check-code lab html student slides grade check experiments \
  proof-11b gpu-check clean

book: $(STAMP)
	$(PY) -m sftrl_lib book

html: $(STAMP)
	$(PY) -m sftrl_lib book --html

# Two workers, one thread each: quicker on two cores than one worker with two threads. The suite is
# for a CPU, on a machine with a GPU too; `make gpu-check` is for the GPU.
PYTEST = CUDA_VISIBLE_DEVICES= OMP_NUM_THREADS=1 $(PY) -m pytest -q -n 2 --dist worksteal

test: $(STAMP)
	$(PYTEST) -m "not slow" $(ARGS)

test-slow: $(STAMP) $(GRADING)
	$(PYTEST) -m slow $(ARGS)

test-all: $(STAMP) $(GRADING)
	$(PYTEST) $(ARGS)

check-code: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/codespell
	$(VENV)/bin/mypy

# No look-ups of news or updates: nothing leaves the machine.
lab: $(STAMP)
	$(PY) -m jupyter lab notebooks --LabApp.news_url=None \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdates

student slides: $(STAMP)
	$(PY) -m teach $@

grade: $(STAMP) $(GRADING)
	@test -n "$(SUBMISSIONS)" || { echo "Say where they are: make grade SUBMISSIONS=folder"; exit 1; }
	$(PY) -m teach grade "$(SUBMISSIONS)"

# The reader's own Python, if there is one already: to see what is missing needs no set-up.
check:
	@"$(or $(wildcard $(PY)),$(FOUND),python3)" teach/ready.py

experiments: $(STAMP)
	$(PY) -m sftrl_lib experiments $(ARGS)

proof-11b: $(STAMP)
	$(PY) benchmarks/proof_11b.py

gpu-check: $(STAMP)
	$(PY) benchmarks/gpu_check.py $(MODEL)

# Installed again only when the versions change.
$(STAMP): requirements.txt pyproject.toml
ifeq ($(FOUND),)
	@echo "No Python 3.11 or newer$(if $(PYTHON), at PYTHON=$(PYTHON)) with the venv module:" \
	  "install one (Debian, Ubuntu: apt install python3-venv) or name one with" \
	  "'make PYTHON=/path/to/python3'." >&2; exit 1
endif
	@echo "Setting up $(VENV) with $(FOUND) (a few minutes, once)"
	test -x $(PY) || "$(FOUND)" -m venv $(VENV)
	$(PY) -m pip install --disable-pip-version-check -r requirements.txt
	$(PY) -m pip install --quiet --disable-pip-version-check \
	  --no-deps --no-build-isolation --editable .
	JUPYTER_CONFIG_DIR=$(JUPYTER_ETC) $(VENV)/bin/jupytext-config set-default-viewer python
	touch $@

# nbgrader, for `make grade`. Its menus and pages stay out of `make lab`.
$(GRADING): requirements-grade.txt $(STAMP)
	$(PY) -m pip install --disable-pip-version-check -r requirements-grade.txt
	$(PY) -m jupyter labextension disable --level=sys_prefix @jupyter/nbgrader
	$(PY) -m jupyter labextension disable --level=sys_prefix @jupyter-notebook/lab-extension
	for name in formgrader validate_assignment assignment_list course_list; do \
	  $(PY) -m jupyter server extension disable --sys-prefix nbgrader.server_extensions.$$name; done
	$(PY) -m jupyter server extension disable --sys-prefix notebook
	touch $@

clean:
	rm -rf $(VENV) build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
