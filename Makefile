# Run `make` for the list of targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup build ready demo test test-unit test-e2e test-conformance conformance bench lint clean

VERSION := $(shell git describe --always --dirty 2>/dev/null || echo unknown)
GOLANGCI_LINT := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0

# -p 2: two packages at a time, however many cores there are, because the end-to-end tests start VMs
# and check times. They are last in the list. -timeout is per package. -count=1, where end-to-end
# tests are among them: Go's test cache does not know that bin/dormouse changed.
GOTESTSUM := go tool gotestsum --format pkgname-and-test-fails -- -p 2 -timeout 35m

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install and make what this machine needs (idempotent; no root needed once the packages are there)
	@setup/setup.sh

build: ## build bin/dormouse
	@go build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o bin/dormouse ./cmd/dormouse

ready: setup build
	@bin/dormouse prepare

demo: ready ## a folder with a Dockerfile, all the way to a microVM that wakes (ARGS=--clean: keep nothing)
	@demo/run.sh $(ARGS)

test: ready ## all tests: unit with the race detector, end-to-end on real VMs
	@DORMOUSE_E2E=1 $(GOTESTSUM) -race -count=1 ./...

test-conformance: ready ## the same clients and steps as conformance, as Go tests; writes nothing
	@DORMOUSE_CONFORMANCE=1 DORMOUSE_CLIENTS=1 $(GOTESTSUM) -count=1 ./test/conformance ./test/clients

test-unit: ## unit tests only; needs no set-up
	@$(GOTESTSUM) -race $$(go list ./... | grep -v /test/e2e)

test-e2e: ready ## end-to-end tests only
	@DORMOUSE_E2E=1 $(GOTESTSUM) -count=1 ./test/e2e/...

conformance: ready ## browser and HTTP clients at endpoints; AWS CLI and SDKs through the whole API, into docs/compatibility.md (ARGS='-only boto3': one of these, no file)
	@$(if $(ARGS),,DORMOUSE_CLIENTS=1 $(GOTESTSUM) -count=1 ./test/clients &&) go run ./test/conformance/cmd/conformance $(or $(ARGS),-report docs/compatibility.md)

bench: ready ## measure, and write bench/latest.json (ARGS='-only steady': that part, and no file)
	@go run ./bench $(ARGS)

lint: ## formatting, vet, and golangci-lint
	@test -z "$$(gofmt -l . | tee /dev/stderr)" || { echo 'lint: run gofmt -w on these files'; exit 1; }
	@go vet ./...
	@go run $(GOLANGCI_LINT) run

clean: ## remove what the build made (assets and data folders stay)
	@rm -rf bin
