# my_worker: PGXS installs it, cargo builds it.
#
# PGXS knows where a server keeps modules, scripts and test programs; cargo knows how to make the
# module. This file joins the two: `make` lets cargo write target/pgNN/ (one directory per major
# version, so that switching PG_CONFIG is cheap) and copies the result to ./my_worker.so, which is
# what PGXS installs. `make install` compiles nothing that is fresh, so it may run as root after
# `make` ran as somebody else.
#
# The include of PGXS is conditional: without a server's build files `make help` and `make deps`
# still work, and everything else says in one line what is missing.
#
# Usual variables: PG_CONFIG=/path/pg_config  DESTDIR=/stage  CARGO=/path/cargo
#                  CARGO_FLAGS=--offline      SUITE=... TESTS=... KEEP=1 (see tests/run)

EXTENSION = my_worker
MODULES   = my_worker

DEFAULT_VERSION := $(shell sed -n "s/^default_version *= *'\(.*\)'.*/\1/p" $(EXTENSION).control 2>/dev/null)
FULL_SQL  := sql/$(EXTENSION)--$(DEFAULT_VERSION).sql
SQL_PARTS := $(sort $(wildcard sql/parts/*.sql))
UPDATES   := $(sort $(wildcard sql/updates/*.sql))
UPDATE_SQL = $(UPDATES:sql/updates/%=sql/%)
DATA       = $(sort $(FULL_SQL) $(UPDATE_SQL) $(wildcard sql/$(EXTENSION)--*.sql))

PG_CONFIG   ?= pg_config
CARGO       ?= $(or $(shell command -v cargo 2>/dev/null),$(wildcard $(HOME)/.cargo/bin/cargo),cargo)
CARGO_FLAGS ?= $(if $(wildcard Cargo.lock),--locked)

# make installcheck: against a running server that preloads the module and serves the database
# `regression` (tests/my_worker.conf). `make test` needs no such server.
REGRESS         = $(sort $(basename $(notdir $(wildcard tests/sql/*.sql))))
REGRESS_OPTS    = --inputdir=tests --outputdir=tests/tmp --load-extension=$(EXTENSION)
REGRESS_PREP    = tests/tmp
ISOLATION       = $(sort $(basename $(notdir $(wildcard tests/isolation/specs/*.spec))))
ISOLATION_OPTS  = --inputdir=tests/isolation --outputdir=tests/tmp --load-extension=$(EXTENSION)
EXTRA_CLEAN     = target tests/tmp web/target

build: all ## Build the module and the SQL script (what plain `make` does)

# ---- the server's build files -------------------------------------------------------------------

ifeq ($(shell $(PG_CONFIG) --version 2>/dev/null),)
LACKING := pg_config does not run ($(PG_CONFIG))
else
PGXS := $(shell $(PG_CONFIG) --pgxs)
SERVER_HEADER := $(shell $(PG_CONFIG) --includedir-server)/postgres.h
ifeq ($(wildcard $(SERVER_HEADER)),)
LACKING := the server headers are missing ($(SERVER_HEADER))
else ifeq ($(wildcard $(PGXS)),)
LACKING := PGXS is missing ($(PGXS))
endif
endif

ifdef LACKING

all install uninstall installcheck:
	@echo '$(EXTENSION): $(LACKING); "make deps" installs what is needed' >&2; exit 1

clean:
	rm -rf $(EXTENSION).so $(EXTENSION).dylib $(EXTRA_CLEAN)

else

# Before the include: a module built by cargo has no bitcode to install.
override with_llvm = no
include $(PGXS)

# After the include, which names a database of its own: the last one counts.
REGRESS_OPTS   += --dbname=regression
ISOLATION_OPTS += --dbname=regression

endif

# ---- cargo --------------------------------------------------------------------------------------

CARGO_TARGET_DIR ?= target/pg$(MAJORVERSION)

CARGO_ENV   = PG_CONFIG='$(PG_CONFIG)' CARGO_TARGET_DIR='$(CARGO_TARGET_DIR)'
CARGO_BUILT = $(CARGO_TARGET_DIR)/release/lib$(EXTENSION)$(if $(filter Darwin,$(shell uname)),.dylib,.so)
SOURCES    := $(wildcard Cargo.toml Cargo.lock build.rs wrapper.h) \
              $(shell find src -type f 2>/dev/null)

need_cargo = command -v '$(CARGO)' >/dev/null || \
	{ echo '$(EXTENSION): cargo is missing ($(CARGO)); "make deps" says how to get it' >&2; exit 1; }

$(EXTENSION)$(DLSUFFIX): $(SOURCES) target/pg_config.stamp
	@$(need_cargo)
	@touch target/began
	$(CARGO_ENV) '$(CARGO)' build --release $(CARGO_FLAGS)
	install -m 755 $(CARGO_BUILT) $@
	@# As old as what it was built from: what is changed meanwhile is built next time.
	@touch -r target/began $@

# Changes only when the module was last built for another server.
target/pg_config.stamp: FORCE
	@mkdir -p $(@D)
	@id="$$($(PG_CONFIG) --version) $$($(PG_CONFIG) --includedir-server)"; \
	[ "$$id" = "$$(cat $@ 2>/dev/null)" ] || echo "$$id" > $@

# cargo's own tests: the pure logic. Called by tests/run, which counts.
cargo-test:
	@$(need_cargo)
	$(CARGO_ENV) '$(CARGO)' test $(CARGO_FLAGS) -- $(TESTS)

# The module with points where tests can have faults; tests/run installs it beside the other one.
faults:
	@$(need_cargo)
	$(CARGO_ENV) '$(CARGO)' build $(CARGO_FLAGS) --features faults

where-faults:
	@echo '$(subst /release/,/debug/,$(CARGO_BUILT))'

cargo-fmt:
	@$(need_cargo)
	$(CARGO_ENV) '$(CARGO)' fmt --check

cargo-clippy:
	@$(need_cargo)
	$(CARGO_ENV) '$(CARGO)' clippy --all-targets $(CARGO_FLAGS) -- -D warnings

# What only some machines have; each says in one line what is missing. They build apart.
RUSTC  = $(or $(wildcard $(dir $(CARGO))rustc),rustc)
HOST   = $(shell '$(RUSTC)' -vV 2>/dev/null | sed -n 's/^host: //p')
RUNNER = CARGO_TARGET_$(shell echo '$(HOST)' | tr 'a-z-' 'A-Z_')_RUNNER
# Searches and histories, of which Miri runs a thousandth of what a processor does in the same time.
MIRI_SKIPS = $(addprefix --skip ,fuzzed histories golden cron schedule rule calendar zone histogram no_input_panics)
TOOL_ENV = PG_CONFIG='$(PG_CONFIG)' CARGO_TARGET_DIR='target/$@'

asan: ## Run cargo's tests under AddressSanitizer
	@$(need_cargo)
	@# The flag is not stable: it is allowed for this build alone, and of no consequence for the module.
	$(TOOL_ENV) RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address \
	    '$(CARGO)' test $(CARGO_FLAGS) --target '$(HOST)' -- $(TESTS)

valgrind: ## Run cargo's tests under valgrind
	@$(need_cargo)
	@command -v valgrind >/dev/null || { echo '$(EXTENSION): valgrind is missing (apt-get install valgrind)' >&2; exit 1; }
	$(TOOL_ENV) $(RUNNER)='valgrind -q --error-exitcode=9 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite' \
	    '$(CARGO)' test $(CARGO_FLAGS) --release -- $(TESTS)

valgrind-server: ## Run some jobs in a server under valgrind (apt-get install valgrind)
	@tests/valgrind

miri: ## Run cargo's tests in Miri, but those that would take it hours
	@$(need_cargo)
	@'$(CARGO)' +nightly miri --version >/dev/null 2>&1 || { echo '$(EXTENSION): Miri is missing (rustup +nightly component add miri)' >&2; exit 1; }
	$(TOOL_ENV) '$(CARGO)' +nightly miri test $(CARGO_FLAGS) -- $(or $(TESTS),$(MIRI_SKIPS))

fuzz: ## Give the parsers, and all of the SQL, anything for SECONDS=60 each
	@$(need_cargo)
	MY_WORKER_FUZZ_SECONDS='$(or $(SECONDS),60)' $(CARGO_ENV) '$(CARGO)' test $(CARGO_FLAGS) fuzzed -- --nocapture
	MY_WORKER_FUZZ_SECONDS='$(or $(SECONDS),60)' TEST_TIMEOUT=86400 SUITE=tap TESTS=147_any_arguments tests/run

sqlsmith: ## Run random queries over our views and functions for SECONDS=60 (apt-get install sqlsmith)
	@SMITH_SECONDS='$(or $(SECONDS),60)' tests/sqlsmith

misuse: ## Show that wrong uses of the layer over the server do not compile
	@$(need_cargo)
	@$(CARGO_ENV) CARGO='$(CARGO)' CARGO_FLAGS='$(CARGO_FLAGS)' scripts/misuse

# ---- the dashboard ------------------------------------------------------------------------------

# A program of its own, with its own lock file and target directory: nothing above depends on it.
WEB_ENV = cd web && CARGO_TARGET_DIR=target '$(CARGO)'

web: ## Build the dashboard: web/target/release/my_worker_web
	@$(need_cargo)
	$(WEB_ENV) build --release $(CARGO_FLAGS)

web-lint:
	@$(need_cargo)
	$(WEB_ENV) fmt --check
	$(WEB_ENV) clippy --all-targets $(CARGO_FLAGS) -- -D warnings

web-test:
	@$(need_cargo)
	$(WEB_ENV) test $(CARGO_FLAGS) -- $(TESTS)

web-picture: ## Take the picture of the dashboard for the README anew (half an hour)
	@scripts/picture

# ---- the SQL script -----------------------------------------------------------------------------

ifneq ($(SQL_PARTS),)
all: $(FULL_SQL) $(UPDATE_SQL)

$(FULL_SQL): $(SQL_PARTS)
	@cat $^ | cmp -s - $@ || { echo "cat sql/parts/*.sql > $@"; cat $^ > $@; }

$(UPDATE_SQL): sql/%: sql/updates/% $(SQL_PARTS) scripts/update-script
	@scripts/update-script $< | cmp -s - $@ || { echo "scripts/update-script $< > $@"; scripts/update-script $< > $@; }
endif

sql: ## Write the scripts of the version in the making anew from sql/parts/ and sql/updates/
	cat $(SQL_PARTS) > $(FULL_SQL)
	for update in $(UPDATES); do scripts/update-script $$update > sql/$${update##*/}; done

# ---- the manual ---------------------------------------------------------------------------------

docs: ## Make the manual as HTML with search, in target/book/html (mdBook is installed below target/tools, once)
	@CARGO='$(CARGO)' scripts/book

reference: ## Write the tables of docs/sql-api.md anew, from the comments in sql/parts
	@scripts/reference

.PHONY: docs reference

# ---- the rest -----------------------------------------------------------------------------------

# The scripts call make again with these.
export MAKE PG_CONFIG CARGO CARGO_FLAGS

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

deps: ## Install what is missing for build and test (apt, as root or by sudo); WEB=1: also a browser
	@scripts/deps --all

install: ## Put module, control file and SQL scripts where PG_CONFIG says (DESTDIR= honoured)

uninstall: ## Take them away again

installcheck: ## Run the SQL tests against a running server that preloads my_worker

demo: ## See it work: a throw-away server, a few jobs, no trace left; WEB=1: leave it with the dashboard
	@scripts/deps && scripts/demo

test: ## Run the tests; SUITE="regress tap" TESTS="jobs" narrow it, KEEP=1 keeps the servers' files
	@tests/run

test-long: ## Run those that take half a minute and more each: a million rows, faults, copies, torture
	@LONG=only tests/run

examples: ## Run the five uses on throw-away servers: a line with figures for each
	@scripts/deps --all && BRIEF=1 SUITE=examples TESTS="maintenance orders rollup replication alerting" tests/run

torture: ## Chaos on a server, judged by a model: SECONDS=600 SEED=1 ACTORS="handlers kill_worker"
	@TORTURE_SECONDS='$(or $(SECONDS),60)' SEED='$(SEED)' ACTORS='$(ACTORS)' tests/torture/run

cassert-server: ## Build a server with assertions from Debian's source; prints its pg_config, for PG_CONFIG=
	@scripts/cassert

discard-caches: ## Run some SQL tests in a server with assertions that forgets its caches all the time (TESTS=)
	@server=$$(scripts/cassert) && SETTINGS='debug_discard_caches = 1' PG_TEST_TIMEOUT_DEFAULT=600 TEST_TIMEOUT=7200 SUITE=regress \
	    TESTS='$(or $(TESTS),tutorial)' PG_CONFIG="$$server" tests/run

test-majors: ## Build and test on other servers: MAJORS="16 17 18", or paths of pg_config; TORTURE=600: torture them
	@scripts/majors

test-upgrade: ## pg_upgrade from the server of PG_CONFIG to those of MAJORS="16 17 18"
	@UPGRADE=only scripts/majors

deb: ## Make Debian's packages, in dist/
	@scripts/deb

dist: ## Make PGXN's zip of what is committed, in dist/
	@scripts/dist

rpm: ## Make the RPM for the server of PG_CONFIG, in dist/
	@scripts/rpm

release: ## Check that all versions agree and nothing stands in the way of a release
	@scripts/release

test-dist: ## Unpack PGXN's zip, build it and run its SQL tests
	@tests/dist

test-encodings: ## Run the SQL tests in databases of other encodings and locales
	@tests/encodings

test-docker: ## Run the steps of the Dockerfile in root folders, and a job in the result (as root)
	@tests/docker

test-deb: deb ## Try them in a root folder: install, upgrade from 1.0, remove, purge (as root)
	@tests/deb/run

lint: ## Check format, clippy, layer rules and test files
	@scripts/lint

verify: ## Check that what is generated and committed is up to date
	@scripts/verify

bench: ## Measure throughput and latency in a throw-away server
	@scripts/deps && bench/run

bench-web: ## Measure the dashboard over a large throw-away server (half an hour, 6 GB of disk)
	@scripts/deps && bench/dashboard

clean: ## Remove everything that was built

tests/tmp:
	mkdir -p $@

FORCE:

.PHONY: FORCE asan valgrind miri misuse build cargo-test cargo-fmt cargo-clippy sql help deb deps demo dist examples release rpm test test-deb test-dist test-docker test-long test-majors test-upgrade torture cassert-server discard-caches lint verify bench faults where-faults test-encodings fuzz sqlsmith valgrind-server web web-lint web-test web-picture bench-web
