# Every target is one line over the go command; scripts live in the folder that owns what they do.

ASSETS = $$(cd test && go run ./assets)

.DEFAULT_GOAL := help
.PHONY: help demo test build lint assets unit integration

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: unit integration ## all tests, those against a real API server included

unit: ## the tests of the main module
	go test ./...

build: ## bin/varve
	go build -o bin/ ./cmd/...

assets: ## the control plane for tests and demo, built once and kept in the user's cache
	cd test && go run ./assets
