# Everything a user types. Each target sets up what it needs in .venv and can be repeated.
#
#   make demo                                   the main job on a synthetic drive: pictures and numbers in out/demo
#   make demo BAG=drive.mcap TOPIC=/camera/image_raw
#   make demo IMAGES=folder/
#   make setup                                  .venv with all that training needs
#   make test                                   all tests
#   make lint                                   ruff and mypy
#   make bench                                  benchmarks: tables, and JSON and plots in out/bench (14 minutes)
#   make soak                                   the node at full load, and its lifecycle over and over (12 minutes)

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out/demo
BENCHMARKS ?= inference clouds transport node_latency node_rates node_idle node_intrinsics node_startup
export FASTRTPS_DEFAULT_PROFILES_FILE ?= $(CURDIR)/config/fastdds.xml

PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
MANIFEST := setup.py package.xml pyproject.toml constraints.txt

.PHONY: demo setup test lint format bench soak clean
.DELETE_ON_ERROR:

demo: $(VENV)/.runtime
	@$(BIN)/python -m depth_node demo --output $(OUT) \
	  $(if $(BAG),--bag "$(BAG)") $(if $(TOPIC),--topic "$(TOPIC)") $(if $(IMAGES),--images "$(IMAGES)") \
	  $(if $(MODEL),--model "$(MODEL)") $(if $(BACKEND),--backend "$(BACKEND)")

setup: $(VENV)/.development

test: $(VENV)/.development
	$(BIN)/python -m pytest $(TESTS)

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

define run_benchmarks
set -e; for name in $(1); do echo; echo "## $$name"; $(BIN)/python benchmarks/$$name.py; done
endef

bench: $(VENV)/.development
	@$(call run_benchmarks,$(BENCHMARKS))

soak: $(VENV)/.development
	@$(call run_benchmarks,lifecycle_cycles soak)

clean:
	rm -rf $(VENV) out build install log *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
	  || { echo "depth_node needs Python 3.10 to 3.12; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(BIN)/python $(MANIFEST)
	@echo "setting up $(VENV): ROS 2 Jazzy from pip, CPU inference, bag tools"
	$(PIP_INSTALL) --editable '.[ros,cpu,tools]'
	@touch $@

$(VENV)/.development: $(BIN)/python $(MANIFEST)
	@echo "setting up $(VENV): the runtime, PyTorch (several GB) and the test tools"
	$(PIP_INSTALL) --editable '.[ros,cpu,tools,train,test]'
	@touch $@ $(VENV)/.runtime
