# Every target is a line or two over the go command; scripts live in the folder that owns what they do.

FUZZTIME = 10s
SEEDS = 2000
SEED = 1
TIME = 10m
LINT = go tool -modfile=$(CURDIR)/tools/go.mod golangci-lint
WITH_ASSETS = VARVE_TEST_ASSETS="$$(go -C test run ./assets)"
# All packages of the module in test/ but Kubernetes itself.
TEST_PACKAGES = $$(go -C $(CURDIR)/test list -f '{{.Dir}}' ./... | grep -v '/test/kube$$')

.DEFAULT_GOAL := help
.PHONY: help demo test unit integration test-stores crash soak sim sabotage lint damage fuzz vectors build assets

help: ## show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: assets build ## back up a real cluster, lose a part of it, restore it, and compare
	$(WITH_ASSETS) go -C test run ./demo

test: unit integration ## run all tests, those against a real API server included

unit: assets ## run the tests of the main module
	$(WITH_ASSETS) go test ./...

integration: assets build ## run the tests of the control plane, of the corpus and of the binary
	$(WITH_ASSETS) go -C test test $(TEST_PACKAGES)

test-stores: ## run the tests of buckets against servers that answer like S3, Google Cloud Storage and Azure
	go -C test run ./stores -dir .. sh -c 'go test ./repo/storage/... ./repo && go test ./cmd/varve -run InBuckets'

crash: ## kill the program before, in and after every request to its store, fill its disk at every write, and kill it twice
	go test -v -timeout 2h ./cmd/varve -run 'HarmNothing|FullDisk|AtTheSameTime|AtAnyMoment' -every 1 -pairs 100 -seed $(SEED)

soak: ## let backups, prunes and kills work on one repository for TIME (10m), and see that nothing is lost
	go test -v -timeout 0 ./cmd/varve -run LongRun -soak $(TIME) -seed $(SEED)

lint: ## run the linters of .golangci.yml
	$(LINT) run ./...
	cd test && $(LINT) run $(TEST_PACKAGES)

fuzz: ## fuzz every decoder, FUZZTIME (10s) each
	tools/fuzz $(FUZZTIME)

sim: ## play SEEDS (2000) schedules of faults over the real repository
	tools/sim $(SEEDS)

sabotage: ## plant faults in the lines on which safety rests, and see each of them caught; WRITE=-write writes docs/sabotage.md
	go -C tools run ./sabotage $(WRITE)

damage: ## do every damage to repositories of every kind, and look at a thousand healthy ones
	go test ./repo -run 'Damage|NoAlarm' -damage -v -timeout 60m

vectors: ## write the vectors of the format and the repositories in testdata anew, which version 0 allows
	go test ./index ./repo ./repo/journal ./repo/pack ./repo/seal ./snapshot ./snapshot/content ./snapshot/files -run 'Vector|Stay|Kept' -update

build: ## build bin/varve
	go build -o bin/ ./cmd/...

assets: ## build the control plane for tests and demo, once, into the user's cache
	go -C test run ./assets
