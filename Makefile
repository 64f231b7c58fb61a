.DEFAULT_GOAL := help
.PHONY: help setup check test lint format docs build demo

help:    ## show this list
	@sed -n 's/^\([a-z]*\): *## /  \1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup:   ## install everything into .venv
	uv sync

check:   ## what continuous integration runs
	.ci/run

test:    ## the tests; make test ARGS="-k sequence" picks some
	uv run pytest $(ARGS)

lint:    ## style, types and layers
	uv run ruff check .
	uv run ruff format --check .
	uv run mypy
	uv run lint-imports

format:  ## put the code into shape
	uv run ruff check --fix .
	uv run ruff format .

docs:    ## write the generated parts of the pages anew
	grep -rlF '[[[cog' --include='*.md' --exclude-dir=.venv . | xargs -r uv run cog -r

build:   ## the wheels of every package, in dist/
	uv build --all-packages

demo:    ## capture a loopback venue for ten seconds
	uv run ssmd demo --seconds 10
