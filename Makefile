# Each line finds a Python that has what it needs, or makes .venv and says first what that takes (tools/environment.py).
# ARGS goes on to the command: make demo ARGS="--policy mlp", make test ARGS="-k space"

PYTHON ?= python3
ARGS ?=

# An environment that has our dependencies is enough: this clone need not be installed in it.
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))

with = @python="$$($(PYTHON) tools/environment.py $(1))" && cd "$(CURDIR)" &&

.PHONY: help demo test test-all lint format bench

help:
	@echo "make demo      a robot learns to ride a bicycle, with pictures"
	@echo "make test      the fast tests, about two minutes"
	@echo "make test-all  all tests, the slow ones too"
	@echo "make lint      format, style, types, floors"
	@echo "make format    put the format and the imports in order"
	@echo "make bench     the rivals beside us, into benchmarks/results/ (hours)"

demo:
	$(call with,rl) exec "$$python" -m eitherway ride $(ARGS)

# Two processes, whole files each; `make test ARGS="-n 0"` takes one.
test:
	$(call with,test) exec "$$python" -m pytest -q -n 2 --dist loadfile $(ARGS)

test-all:
	$(call with,test) exec "$$python" -m pytest -q -m "" $(ARGS)

lint:
	$(call with,test) "$$python" -m ruff format --check . && "$$python" -m ruff check . && "$$python" -m pyright --pythonpath "$$python" \
	&& exec "$$python" -m pytest -q tests/test_floors.py tests/test_public_names.py

format:
	$(call with,test) "$$python" -m ruff check --fix . ; exec "$$python" -m ruff format .

bench:
	$(call with,bench) \
	"$$python" -m benchmarks.bbob --instances 6-10 --processes 2 --publish && \
	"$$python" -m benchmarks.bbob_mixint --instances 6-10 --processes 2 --publish && \
	"$$python" -m benchmarks.overhead --publish && \
	"$$python" -m benchmarks.journal --publish && \
	"$$python" -m benchmarks.startup --publish && \
	"$$python" -m benchmarks.bicycle --processes 2 --publish && \
	"$$python" -m benchmarks.bicycle_speed --publish && \
	"$$python" -m benchmarks.jacobian --publish && \
	"$$python" -m benchmarks.sparse --publish && \
	"$$python" -m benchmarks.fusing --compile --publish && \
	"$$python" -m benchmarks.starts --publish && \
	"$$python" -m benchmarks.faults --publish && \
	"$$python" -m benchmarks.digits_depth --publish && \
	exec "$$python" -m benchmarks.depth --depth 100 --depth 1000 --publish
