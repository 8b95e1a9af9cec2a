# Everything runs in .venv, which `make` builds from constraints.txt. `make demo` and `make test` are all one needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One torch thread a process: the work is split over processes, and idle threads must not spin.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive

.PHONY: demo demo-quick test lint format clean

demo: $(VENV)/installed
	$(BIN)/mbrl-gym compare mbrl/Arm-v0 --agents mpc,ppo,sac --steps mpc=500,ppo=30000,sac=3000 \
		--seeds 2 --jobs 2 --evaluations 6 --out demo --gif

demo-quick: $(VENV)/installed
	$(BIN)/mbrl-gym compare mbrl/Arm-v0 --agents mpc,ppo --steps mpc=150,ppo=2048 \
		--seeds 1 --jobs 2 --evaluations 2 --episodes 10 --out demo/quick --gif

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy mbrl_gym agents

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) demo

# torch first, by its exact version: left to the resolver, it may bring gigabytes of CUDA along.
$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
