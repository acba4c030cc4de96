# Everything goes through .venv, made from requirements.lock; `make install` does nothing when nothing changed.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test fuzz consumers student jvm serving-protos onnx check real quality bench clean

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

# Other programs that load a student: by default the one of `make demo`, and its log.
CONSUMERS := tests/consumers
STUDENT ?= runs/demo/students/subclass/model/1
LOG ?= runs/demo.tsv
consumers: jvm serving-protos onnx
jvm serving-protos onnx: export TF_CPP_MIN_LOG_LEVEL = 3

student:
	@test -d $(STUDENT) || { echo "STUDENT must be an exported model; make demo makes one. Received: $(STUDENT)."; exit 2; }

jvm: student
	@for tool in java javac mvn; do command -v $$tool > /dev/null || { echo "make jvm must have a JDK of version 17 or newer and Maven. Received: no $$tool."; exit 2; }; done
	mvn --quiet --batch-mode --file $(CONSUMERS)/jvm/pom.xml compile
	java -cp $(CONSUMERS)/jvm/target/classes:$$(cat $(CONSUMERS)/jvm/target/classpath) ScoreSample $(STUDENT)

# Packages of their own, without what those depend on: that is in .venv.
OWN_PACKAGES = $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target $(1)/.packages --requirements $(1)/requirements.lock

serving-protos: install student
	$(call OWN_PACKAGES,$(CONSUMERS)/serving_protos)
	PYTHONPATH=$(CONSUMERS)/serving_protos/.packages $(BIN)/python $(CONSUMERS)/serving_protos/check.py $(STUDENT)

onnx: install student
	$(call OWN_PACKAGES,$(CONSUMERS)/onnx)
	PYTHONPATH=$(CONSUMERS)/onnx/.packages $(BIN)/python $(CONSUMERS)/onnx/check.py $(STUDENT) $(LOG)

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
	$(BIN)/python benchmarks/serving.py
	$(BIN)/python benchmarks/load.py --model $(STUDENT) --input $(LOG)

clean:
	rm -rf runs build *.egg-info
