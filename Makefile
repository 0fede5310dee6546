# Targets: make (build), make demo, make test. Each installs what it needs and may be repeated.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python

.PHONY: all venv
all: venv
venv: $(VENV)/.built
$(VENV)/.built: pyproject.toml
	test -x $(PY) || /usr/bin/python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -e '.[test]'
	touch $@
