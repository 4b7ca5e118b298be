# Every target makes ready what it needs; `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
READY := .venv/.ready
RUN := .venv/bin/python tools/run_tests.py

export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.cache/collections

.PHONY: help test lint unit sanity build molecule site verify down docs bench lock clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

test: $(READY) ## run every test layer; the last line is the sum
	@$(RUN)

lint unit sanity build molecule: $(READY) ## run one test layer
	@$(RUN) $@

site: $(READY) ## build a lab of 4 hosts and encrypt it with playbooks/site.yml
	@tools/site.sh site

verify: $(READY) ## look again at what `make site` left running
	@tools/site.sh verify

down: $(READY) ## take down what `make site` left running
	@tools/site.sh down

docs: $(READY) ## write docs/reference.md from the roles' and modules' documentation
	@.venv/bin/python tools/build_docs.py

bench: $(READY) ## measure speed and scale
	@set -e; for script in bench/*.py; do echo "== $$script"; .venv/bin/python "$$script"; done

lock: $(READY) ## write requirements*.txt anew from requirements*.in
	@tools/lock.sh

clean: ## remove what the targets made, except a running lab
	rm -rf .cache/{ansible,build,collections,junit,mypy,pytest,ruff,sanity} .venv

$(READY): tools/bootstrap.sh tests/packages.txt requirements.txt requirements-dev.txt
	@tools/bootstrap.sh
