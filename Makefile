# What a person does with this project, one target each; `make help` lists them.
# Everything is installed into .venv, with the versions of requirements/constraints.txt.

VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
CONSTRAINTS := requirements/constraints.txt
ALONE := requirements/axolotl-schema.txt
CODE := nexa_contracts nexa_infra nexa_train nexa_eval nexa_cli

.DEFAULT_GOAL := help
.PHONY: help demo dev test check format docs bench fault-campaign clean distclean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z%-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed-demo ## a hyper-parameter sweep on this machine, in about five minutes from a fresh clone, installation included
	$(BIN)/nexa sweep nexa_train/sweeps/random_search.yaml

dev: $(VENV)/.installed-dev ## everything a developer needs, in .venv

test: $(VENV)/.installed-dev ## the whole test suite; as root it installs the system programs it lacks (Slurm, strace)
	@tools/install_test_programs.sh
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

check: $(VENV)/.installed-dev ## lint, format, types, floors, and the generated pages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python tools/generate_docs.py --check

format: $(VENV)/.installed-dev ## put the code into its form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev ## write the pages that come from the code
	$(BIN)/python tools/generate_docs.py

bench: bench-cli_startup bench-index_speed bench-launcher_memory bench-promotion bench-sweep_expansion bench-training_overhead bench-slurm_submission bench-slurm_status bench-hostile_strings ## the figures the README quotes

bench-%: benchmarks/%.py $(VENV)/.installed-dev ## one benchmark, for example bench-promotion
	$(BIN)/python $<

fault-campaign: $(VENV)/.installed-dev ## kill and fail promotions, runs and a Slurm cluster, again and again (long; root and Slurm's packages)
	$(BIN)/python benchmarks/fault_campaign.py
	$(BIN)/python benchmarks/kill_campaign.py
	$(BIN)/python benchmarks/slurm_faults.py

clean: ## remove caches and build products; runs and storage stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
	find $(CODE) tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## clean, and remove .venv
	rm -rf $(VENV)

# The installations carry a stamp: a second `make demo` installs nothing, a changed pyproject.toml does.
$(VENV)/.installed-demo: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@tools/install.sh $(BIN) 'train,plot'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml $(CONSTRAINTS) $(ALONE) | $(BIN)/python
	@tools/install.sh $(BIN) 'train,plot,eval,search,track,dev' $(ALONE)
	@touch $@ $(VENV)/.installed-demo

$(BIN)/python:
	@tools/create_venv.sh $(VENV) $(PYTHON)
