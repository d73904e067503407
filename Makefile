# Mayfly. "make help" lists the verbs.
SHELL := /bin/bash
GO ?= go
BIN := bin/mayfly

.DEFAULT_GOAL := build
# The slow suites have verbs of their own.
PACKAGES = $(shell $(GO) list ./... | grep -v /test/)

.PHONY: build run test check race gen bench conformance stress fuzz help

build: ## build bin/mayfly
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/mayfly

run: build ## show it working: three functions created, invoked, logged and billed; then serve until Ctrl-C
	$(GO) build -o bin/tour ./examples/tour
	@exec bin/tour --mayfly $(BIN)

test: check ## format, vet and all tests but the slow suites
	$(GO) test $(PACKAGES)
	cd tools/apigen && $(GO) vet ./... && $(GO) test ./... && $(GO) run . -C ../.. check

check: ## format and vet
	@unformatted=$$(gofmt -l $$(git ls-files '*.go' 2>/dev/null || find . -name '*.go')); if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...

race: ## tests under the race detector
	CGO_ENABLED=1 $(GO) test -race -timeout 20m . ./internal/...

gen: ## regenerate the API contracts from apimodels
	cd tools/apigen && $(GO) run . -C ../.. gen

bench: ## benchmarks, each beside its baseline, with the ratios
	$(GO) run ./test/bench

conformance: ## drive the real AWS CLI, boto3 and Terraform against a server
	$(GO) test -count=1 -v -parallel 8 -timeout 30m ./test/conformance

stress: ## thousands of invocations that fail in every way, and servers that are killed
	$(GO) test -count=1 -v -timeout 20m ./test/stress

fuzz: ## every fuzzer for a short while
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime 10s $$pkg || exit 1; \
	  done; \
	done

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | column -t -s "$$(printf '\t')"
