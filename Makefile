# Everything goes through .venv, made from requirements.lock; `make install` does nothing when nothing changed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test fuzz check real quality bench clean

install: $(STAMP)

$(STAMP): requirements.lock setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==0.13.8
	$(BIN)/uv pip install --quiet --python $(BIN)/python --requirements requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $(STAMP)

# The main job on 200,000 generated rows.
demo: install
	mkdir -p runs
	test -f runs/demo.tsv || $(BIN)/ctr-distill generate --rows 200000 --output runs/demo.tsv
	$(BIN)/ctr-distill run --input runs/demo.tsv --run runs/demo

test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Coverage-guided fuzzing of the parsers and decoders; what it needs is in a venv of its own.
FUZZ_SECONDS ?= 600
fuzz: install
	test -x tests/fuzz/.venv/bin/python || $(BIN)/uv venv --quiet --python $(BIN)/python tests/fuzz/.venv
	$(BIN)/uv pip install --quiet --python tests/fuzz/.venv/bin/python --requirements tests/fuzz/requirements.lock
	tests/fuzz/.venv/bin/python tests/fuzz/fuzz.py --seconds $(FUZZ_SECONDS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The main job on real rows: CTR_DISTILL_CRITEO names a Criteo-format log.
real: install
	@test -n "$(CTR_DISTILL_CRITEO)" || { echo "make real must have CTR_DISTILL_CRITEO set to a Criteo-format log."; exit 2; }
	$(BIN)/ctr-distill run --input $(CTR_DISTILL_CRITEO) --run runs/real

# Students against tuned peers on real rows: see benchmarks/quality.py.
quality: install
	@test -n "$(CTR_DISTILL_CRITEO)" || { echo "make quality must have CTR_DISTILL_CRITEO set to a Criteo-format log."; exit 2; }
	$(BIN)/python benchmarks/quality.py --input $(CTR_DISTILL_CRITEO)

bench: install
	$(BIN)/python benchmarks/preprocess.py --peers all
	$(BIN)/python benchmarks/memory.py --rows 1000000 10000000
	$(BIN)/python benchmarks/precompute.py
	$(BIN)/python benchmarks/inputs.py
	$(BIN)/python benchmarks/training.py --parts step,student,memory,peers
	$(BIN)/python benchmarks/teacher.py generated

clean:
	rm -rf runs build *.egg-info
