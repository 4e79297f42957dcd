# dlreconcile: `make` lists the targets.
SHELL := /bin/bash
GO    ?= go
BIN   := bin
PAYLOAD := providers/image/payload

# What the demo needs, and what the tests need beyond it: the machines they boot,
# and the foreign clients and servers that they are held against.
DEMO_PACKAGES := qemu-system-x86 ipxe-qemu seabios iproute2 tcpdump \
	mmdebstrap e2fsprogs squashfs-tools zstd kmod cpio ipxe
TEST_PACKAGES := $(DEMO_PACKAGES) ovmf qemu-utils debootstrap busybox-static xz-utils \
	grub-common grub-pc-bin grub-efi-amd64-bin pxelinux syslinux-common btrfs-progs \
	udhcpc isc-dhcp-client dnsmasq-base atftp tftp-hpa curl \
	age nbd-client nbd-server kea-admin nginx-light nbdkit libnbd-bin python3-libnbd fio git gnupg openssh-client gcc libc6-dev graphviz

# FLAGS are added to every `go test`.
FLAGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

.PHONY: deps
deps: ## install the Debian packages and Go modules that tests need (root)
	@.ci/packages $(TEST_PACKAGES)
	@.ci/newer qemu-img 8.2 qemu-utils $(BIN)/newer || echo "a test of extended headers will miss QEMU 8.2"
	$(GO) mod download

.PHONY: demo-deps
demo-deps:
	@.ci/packages $(DEMO_PACKAGES)

.PHONY: build
build: ## build bin/dlreconcile, with nbdroot inside
	CGO_ENABLED=0 GOARCH=amd64 $(GO) build -trimpath -ldflags='-s -w' -o $(PAYLOAD)/nbdroot-amd64 ./cmd/nbdroot
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/dlreconcile ./cmd/dlreconcile

.PHONY: fmt
fmt: ## format the Go files
	gofmt -w $$(git ls-files '*.go')

.PHONY: lint
lint: ## gofmt, go vet, and the import table
	@test -z "$$(gofmt -l $$(git ls-files '*.go') | tee /dev/stderr)"
	$(GO) vet ./...
	$(GO) test -count=1 -run 'TestLayers|TestPackageDocs|TestGoroutineCensus' ./cmd/dlreconcile

.PHONY: check
check: build lint ## lint and unit tests; no network, no root, no boots
	$(GO) test $(FLAGS) ./...

.PHONY: test
test: deps build lint ## everything, boots included; the NBD fuzz tests for FUZZTIME (root)
	DLRECONCILE_TEST_FULL=1 $(GO) test -count=1 -timeout 60m $(FLAGS) ./...
	@set -e; for f in FuzzHandshake FuzzTransmission; do \
	  $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 2s ./providers/export/nbd; done

.PHONY: e2e
e2e: deps build ## only the tests that boot real machines (root)
	DLRECONCILE_TEST_FULL=1 $(GO) test -count=1 -timeout 60m -v -run 'TestE2E' $(FLAGS) ./cmd/dlreconcile

.PHONY: race
race: build ## unit tests under the race detector
	$(GO) test -race $(FLAGS) ./...

.PHONY: fuzz
FUZZTIME ?= 20s
fuzz: ## every fuzz test for FUZZTIME each
	@set -e; for d in $$($(GO) list -f '{{.Dir}}' ./...); do \
	  for f in $$(grep -hoE '^func (Fuzz[A-Za-z0-9]+)' $$d/*_test.go 2>/dev/null | cut -d' ' -f2); do \
	    echo "$$d $$f"; (cd $$d && $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) .); done; done

.PHONY: bench
bench: build ## what planning and applying costs, and Go benchmarks (root)
	$(GO) test -timeout 60m -run '^$$' -bench . -benchmem ./...

.PHONY: crash
crash: build ## fail at every hit of every failpoint, by kill, error and panic (root)
	DLRECONCILE_TEST_CRASH=. $(GO) test -count=1 -timeout 120m -v -run '^TestCrash$$' ./cmd/dlreconcile

.PHONY: soak
SOAK ?= 1000
soak: build ## $(SOAK) applies under load, of which nobody notices anything (root)
	DLRECONCILE_TEST_FULL=1 DLRECONCILE_TEST_SOAK=$(SOAK) $(GO) test -count=1 -timeout 60m -v -run '^TestSoak$$' ./cmd/dlreconcile

.PHONY: generate
generate: ## rewrite the golden files of the tests
	$(GO) test ./schema ./engine/plan ./engine/api ./cmd/dlreconcile -run "OpenAPIIsOfTheTypes|Valid|Invalid|Corpus|Stories|Examples|Formatted|LanguagePage" -update

.PHONY: demo
demo: demo-deps build ## boot a machine from a commit, change the commit, boot again (root)
	$(BIN)/dlreconcile demo
