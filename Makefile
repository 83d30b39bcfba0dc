# make demo   set everything up and serve the page on 127.0.0.1:7860
# make test   set everything up and run every check and test, the browser's included
# make lint   ruff and mypy alone
# make interpreters   check that the packages can be installed, and the code compiles, with Python 3.10 to 3.13
# make pins   take the newest versions of all packages into constraints.txt
# make bench  the benchmarks whose numbers are in docs/quality.md and docs/speed.md (hours)

PYTHON ?= python3
CACHE  ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/ilo-studio
PYTHON_TAG := $(shell $(PYTHON) -c 'import sys; print("py%d.%d" % sys.version_info[:2])')
# The environment lives outside the checkout, one per content of the requirement files. They say what can be used,
# constraints.txt says what is.
HASH = $(shell cat $(1) | cksum | cut -d' ' -f1)
RUN_ENV := $(CACHE)/run-$(PYTHON_TAG)-$(call HASH,requirements.txt constraints.txt)
DEV_ENV := $(CACHE)/dev-$(PYTHON_TAG)-$(call HASH,requirements.txt requirements-dev.txt constraints.txt)
# A complete development environment also serves the page.
DEMO_ENV = $(if $(wildcard $(DEV_ENV)/.complete),$(DEV_ENV),$(RUN_ENV))
ARGS ?=

.PHONY: demo test lint interpreters pins bench environment browser

demo: $(DEMO_ENV)/.complete
	$(DEMO_ENV)/bin/python app.py $(ARGS)

test: $(DEV_ENV)/.complete browser lint interpreters
	$(DEV_ENV)/bin/python -m pytest $(ARGS)

lint: $(DEV_ENV)/.complete
	$(DEV_ENV)/bin/ruff check .
	$(DEV_ENV)/bin/ruff format --check .
	$(DEV_ENV)/bin/mypy

interpreters: $(DEV_ENV)/.resolved
	$(DEV_ENV)/bin/python tests/interpreters.py compile

pins: $(DEV_ENV)/.complete
	$(DEV_ENV)/bin/python tests/interpreters.py pin

bench: $(DEV_ENV)/.complete browser
	$(DEV_ENV)/bin/python -m benchmarks.step
	$(DEV_ENV)/bin/python -m benchmarks.step --size 1024
	$(DEV_ENV)/bin/python -m benchmarks.alignment
	$(DEV_ENV)/bin/python -m benchmarks.page
	$(DEV_ENV)/bin/python -m benchmarks.quality
	$(DEV_ENV)/bin/python -m benchmarks.guidance classes
	$(DEV_ENV)/bin/python -m benchmarks.guidance radii --classes 10

environment: $(DEV_ENV)/.complete
	@echo $(DEV_ENV)

browser: $(DEV_ENV)/.complete
	@DEV_ENV=$(DEV_ENV) sh tests/browser/install.sh

$(RUN_ENV)/.complete:
	$(call build,$(RUN_ENV),requirements.txt)

$(DEV_ENV)/.complete:
	$(call build,$(DEV_ENV),requirements-dev.txt)

# What can be installed depends on the requirement files alone, as the environment does.
$(DEV_ENV)/.resolved: $(DEV_ENV)/.complete
	$(DEV_ENV)/bin/python tests/interpreters.py resolve
	touch $@

# Built beside its place and marked complete last, so that an interrupted install is started again.
define build
	rm -rf $(1)
	mkdir -p $(CACHE)
	$(PYTHON) -m venv $(1)
	$(1)/bin/python -m pip install --upgrade --quiet pip
	$(1)/bin/python -m pip install --progress-bar off -r $(2) -c constraints.txt
	touch $(1)/.complete
endef
