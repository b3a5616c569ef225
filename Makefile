# `make` alone says what there is. Prerequisites: root, git and make on Debian 12; everything else comes with `make setup`.

LAB := /usr/bin/python3 molecule/lab/lab.py
IN := PATH="$(CURDIR)/.venv/bin:$$PATH" VIRTUAL_ENV="$(CURDIR)/.venv"
HOST ?= F
SECONDS ?= 600

.DEFAULT_GOAL := help
.PHONY: help setup lint unit sanity build molecule test test-all fuzz bench-flows bench-quick demo shell clean

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/make \1\t\2/p' Makefile | expand -t 18

setup:  ## system packages and the two virtual environments; quick when all is there
	@.ci/setup

lint: setup  ## ruff, mypy --strict, yamllint, ansible-lint, shellcheck
	@.ci/lint

unit: setup  ## unit tests, the proxy as a process on loopback, the rules with packets
	@.ci/unit

sanity: setup  ## ansible-test sanity
	@.ci/sanity

build: setup  ## the collection's tarball
	@.ci/build

molecule: setup  ## the scenario default: Debian 12 hosts, newest ansible-core
	@.ci/molecule .venv default

test: setup  ## all that must hold, with a sample where the whole is long (at most 20 minutes)
	@.ci/test

test-all: setup  ## the whole (some 75 minutes; the longest tests on Debian 12 or on Debian 13)
	@.ci/test all

fuzz: setup  ## atheris on the proxy's parsers and its session machine, for SECONDS (10 minutes)
	@.ci/fuzz $(SECONDS)

bench-flows: setup  ## what it costs to derive flows and rules, up to 1,000 hosts and 20,000 networks
	@$(IN) python tests/benchmarks/derivation.py

bench-quick: setup  ## what the proxy costs beside plain forwarding, in a minute; asserts nothing
	@PYTHONPATH=playbooks/collections $(IN) python3 -m tests.benchmarks.quick

demo:  ## the lab with F and N converged, files through both, and what the hosts saw of it
	@.ci/setup .venv
	@$(IN) /usr/bin/python3 molecule/lab/demo.py

shell:  ## make shell HOST=F: a root shell on a host of the demo (C, F, N or S)
	@$(LAB) shell $(HOST)

clean:  ## remove the demo, this checkout's labs, environments, caches and builds
	@.ci/clean
