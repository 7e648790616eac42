# Every target is a line or two over the go command; scripts live in the folder that owns what they do.

FUZZTIME = 10s
LINT = go tool -modfile=tools/go.mod golangci-lint

.DEFAULT_GOAL := help
.PHONY: help demo test unit integration lint fuzz build assets

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

test: unit integration ## run all tests, those against a real API server included

unit: assets ## run the tests of the main module
	go test ./...

integration: assets build ## run the tests of the binary and of the control plane
	cd test && go test $$(go list ./... | grep -v /kube$$)

lint: ## run the linters of .golangci.yml, and vet over test/
	$(LINT) run ./...
	cd test && go vet $$(go list ./... | grep -v /kube$$)

fuzz: ## fuzz every decoder, FUZZTIME (10s) each
	tools/fuzz $(FUZZTIME)

build: ## build bin/varve
	go build -o bin/ ./cmd/...

assets: ## build the control plane for tests and demo, once, into the user's cache
	cd test && go run ./assets
