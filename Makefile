# One command each, on a fresh Debian or Ubuntu with Python 3.11 or 3.12 and make:
#
#   make demo    a recorded run of an H200, then a pair of this machine's own: capture, check and report
#   make test    formatting, lint, types and all tests; or some of them alone (TESTS='tests/test_x.py tests/test_y.py' ARGS='-k word')
#   make docs    the pages of docs/ as a site, into build/docs; a link that leads nowhere fails it
#   make bench   speed against a bare SQLite scan, into benchmarks/results.md (BENCH_ARGS='--sizes 100000')
#
# For those who change the project:
#
#   make check          formatting, lint and types, without tests
#   make format         format the code, and correct what lint can
#   make generated      write the generated files again, in their order; the answers of goldens.py are only compared
#   make clean          remove .venv and what tests and tools leave; the next make installs anew
#   make help           this text
#
# More tests:
#
#   make test-hostile   the tests without numba, on the plainest processor's kernels, beside a busy loop
#   make test-versions  a slice of the tests under the oldest, a middle and the newest version of each dependency; needs an index
#   make audit          known vulnerabilities of the pinned versions, by pip-audit; needs a network
#   make lock           requirements.lock and docs/requirements.lock anew, by uv; needs an index
#   make fuzz           hostile inputs and kills; the seed is printed (FUZZ_ARGS='--seed 1 --inputs 20000 --commands 1000 --kills 200')
#   make nightly        what takes long (thousands of random traces) or times something, and needs a quiet machine
#
# All create .venv with pinned versions (requirements.lock) the first time, and again when those change. Variables
# (PYTHON and TORCH_INDEX count when .venv is made; `make clean` first to change them):
#   PYTHON=python3.12   the Python to build .venv with (default: python3 if new enough, else python3.12 or 3.11)
#   TORCH_INDEX=URL     one more package index to take torch from, such as PyTorch's own index of CPU builds, which are
#                       a tenth the size of the CUDA builds that the default index gives on Linux
#   DEMO_ARGS='...'     more options for the demo's capture, for instance '--rounds 4'
#   TESTS='...'         the test files that `make test` runs alone, without format, lint and types
#   ARGS='...'          more words for pytest, for instance '-k word -x'

PYTHON ?=
TORCH_INDEX ?=
DEMO_ARGS ?=
TESTS ?=
ARGS ?=
export PYTHON TORCH_INDEX DEMO_ARGS

# Named after the folder: an environment copied along with its checkout would still import the old one.
STAMP := .venv/.installed-$(shell printf %s '$(CURDIR)' | cksum | cut -d ' ' -f 1)

WORDS := $(filter-out test,$(MAKECMDGOALS))
ifneq ($(words $(MAKECMDGOALS)),$(words $(WORDS)))
ifneq ($(WORDS),)
$(error `make test` takes no other words, and got '$(WORDS)'; some tests alone: make test TESTS=tests/test_x.py ARGS='-k word')
endif
endif

.PHONY: tests help demo test test-hostile test-versions audit lock fuzz nightly docs bench check format generated clean
help:
	@sed -n '3,$$ { /^#/!q; s/^# \{0,1\}//p }' Makefile

demo: $(STAMP)
	@scripts/demo.sh

tests:
	@echo "make: the tests are run by 'make test'; 'make help' lists all targets" >&2; exit 2

ifeq ($(strip $(TESTS)),)
test: $(STAMP)
	@scripts/check.sh --tests $(ARGS)
else
test: $(STAMP)
	@for one in $(foreach one,$(TESTS),$(firstword $(subst ::, ,$(one)))); do ls $$one >/dev/null 2>&1 || \
	    { echo "make: there is no file $$one; test files lie in tests/: make test TESTS=tests/test_x.py" >&2; exit 2; }; done
	@.venv/bin/python -P -m pytest $(TESTS) $(ARGS)
endif

test-hostile: $(STAMP)
	@scripts/test-hostile.sh

test-versions: $(STAMP)
	@.venv/bin/python -P scripts/check_versions.py

audit: $(STAMP)
	@scripts/audit.sh

lock: $(STAMP)
	@scripts/lock.sh

fuzz: $(STAMP)
	@.venv/bin/python -P -m aisp_trace.tests.fuzz $(FUZZ_ARGS)

nightly: $(STAMP)
	@scripts/test.sh --dist=worksteal -m nightly

docs: $(STAMP)
	@scripts/make-docs.sh

bench: $(STAMP)
	@.venv/bin/python -P benchmarks/run.py $(BENCH_ARGS)

check: $(STAMP)
	@scripts/check.sh

format: $(STAMP)
	@.venv/bin/ruff check --fix-only --quiet . && .venv/bin/ruff format .

generated: $(STAMP)
	@scripts/generated.sh

# A target that does not exist; files that make looks for on its way have no recipe of their own.
.DEFAULT:
	@echo "make: there is no target '$@'; 'make help' lists them all, 'make check' is format, lint and types" >&2; exit 2

clean:
	rm -rf .venv .dev build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis report.html
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt requirements.lock scripts/make-venv.sh
	@scripts/make-venv.sh $@
