# SPDX-License-Identifier: Apache-2.0
# shunt. Two commands are enough for most: `make demo`, `make check` (as root, on Debian 12).
# `make help` lists the rest. Everything built lies in $(B).

B ?= build
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0
Q := $(if $(filter 1,$(V)),,@)
SAY = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n')

CC := gcc
CXX := g++
CLANG ?= clang
PKG ?= pkg-config
SAN ?=
FACTOR ?= 1
WARN := -Wall -Wextra -Wshadow -Wconversion -Werror
WARN_C := -Wstrict-prototypes -Wmissing-prototypes
OPT ?= -O2 -g
CFLAGS = -std=gnu11 -D_GNU_SOURCE $(OPT) $(WARN) $(WARN_C) -I. -MMD -MP -pthread $(SAN)
CXXFLAGS = $(OPT) $(WARN) -I. -MMD -MP $(SAN)
LDFLAGS = -pthread $(SAN)

.PHONY: all
all:: ## builds the daemon, the command, the kernel programs and the man pages

# ---- for a machine that has nothing yet: these goals need no package to be read ----

.PHONY: deps demo check help clean
deps: ## installs the packages the targets need (Debian, root)
	$(Q)test/install-deps build test

demo: ## the main job on real programs: three workloads, curl, nginx, one rule
	$(Q)test/install-deps build demo
	$(Q)$(MAKE) --no-print-directory all
	$(Q)B=$(B) test/demo

check: ## installs what it needs, builds, runs every test this machine can run
	$(Q)test/install-deps build test bench
	$(Q)B=$(B) test/check

help: ## this text
	@sed -n 's/^\([a-z][a-z0-9-]*\):.*## \(.*\)/  \1|\2/p' Makefile bpf/Makefile.inc \
		test/bpf/Makefile.inc test/vm/Makefile.inc test/bench/Makefile.inc | awk -F'|' '{printf "  %-16s %s\n", $$1, $$2}'
	@echo
	@echo "  V=1 shows commands, B=DIR builds elsewhere, PREFIX= and DESTDIR= steer install."

clean: ## removes what was built
	rm -rf $(B)

GOALS := $(or $(MAKECMDGOALS),all)
ifneq ($(filter-out deps demo check help clean,$(GOALS)),)
ifeq ($(shell command -v $(PKG)),)
$(error $(PKG) is missing: run `make deps` as root)
endif

include bpf/Makefile.inc
include proxy/codec/Makefile.inc
include config/Makefile.inc
-include proxy/cli/Makefile.inc

# ---- libraries: pure code apart from the rest, so that the linker can prove it ----

PURE_SRCS := $(CODEC_SRCS) $(CONFIG_PURE_SRCS) $(POLICY_PURE_SRCS) \
	proxy/forwarding.c proxy/record.c proxy/probe_print.c
PROXY_SRCS := $(addprefix proxy/,access_log.c addr.c admin.c capability.c cgroup.c conn.c \
	control.c deadline.c enroll.c exchange.c exclusions.c explicit.c history.c identity.c io.c \
	listener.c log.c member.c metrics.c netns.c notify.c origdst.c orphan.c privilege.c \
	probe.c probe_ktls.c probe_sockets.c probe_trial.c recorder.c ring.c slab.c status.c upstream.c \
	worker.c workloads.c) $(CONFIG_SRCS)

objects = $(patsubst %.cc,$(B)/%.o,$(patsubst %.c,$(B)/%.o,$(1)))
PURE_OBJS := $(call objects,$(PURE_SRCS))
PROXY_OBJS := $(call objects,$(PROXY_SRCS))
CLI_OBJS := $(call objects,$(CLI_SRCS))

UV_CFLAGS := $(shell $(PKG) --cflags libuv)
LIBS := $(CONFIG_LIBS) $(LLHTTP_LIBS) $(shell $(PKG) --libs libuv) -lbpf -lelf -lz -lcjson
DEP_CFLAGS := $(LLHTTP_CFLAGS) $(CONFIG_CFLAGS) $(UV_CFLAGS)

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(SAY) CC $<
	$(Q)$(CC) $(CFLAGS) $(DEP_CFLAGS) -c $< -o $@

$(B)/%.o: %.cc
	@mkdir -p $(@D)
	$(SAY) CXX $<
	$(Q)$(CXX) $(CXXFLAGS) $(CONFIG_CXXFLAGS) -c $< -o $@

$(B)/libpure.a: $(PURE_OBJS)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/libproxy.a: $(PROXY_OBJS) $(PROBE_OBJS)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

ARCHIVES := $(B)/libproxy.a $(B)/libpure.a

$(B)/shuntd: $(B)/proxy/main.o $(ARCHIVES) $(B)/bpf/loader.o $(LLHTTP_OBJS)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) $< $(B)/libproxy.a $(B)/bpf/loader.o $(B)/libpure.a \
		$(LLHTTP_OBJS) $(LIBS) -o $@

$(B)/libcli.a: $(CLI_OBJS)
	$(SAY) AR $@
	$(Q)rm -f $@ && ar rcs $@ $^

$(B)/shunt: $(B)/proxy/cli/main.o $(B)/libcli.a $(ARCHIVES) $(B)/bpf/loader.o $(LLHTTP_OBJS)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) $< $(B)/libcli.a $(B)/libproxy.a $(B)/bpf/loader.o $(B)/libpure.a \
		$(LLHTTP_OBJS) $(LIBS) -o $@

# ---- man pages ----

MAN := $(B)/man/shuntd.8 $(B)/man/shunt.1 $(B)/man/shunt.yaml.5
$(B)/man/%: proxy/%.scd
	@mkdir -p $(@D)
	$(SAY) MAN $@
	$(Q)scdoc <$< >$@
$(B)/man/%: config/%.scd
	@mkdir -p $(@D)
	$(SAY) MAN $@
	$(Q)scdoc <$< >$@

.PHONY: man
man: $(MAN)

all:: $(B)/shuntd $(B)/shunt man

# ---- tests ----

include test/bpf/Makefile.inc
include test/vm/Makefile.inc
include test/bench/Makefile.inc

UNIT_SRCS := $(wildcard test/unit/test_*.c)
UNIT_BINS := $(UNIT_SRCS:%.c=$(B)/%)
UNIT_HELPERS := $(filter-out $(UNIT_SRCS),$(wildcard test/unit/*.c))
comma := ,
WRAP := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free

.SECONDARY:
$(B)/test/unit/test_%: $(B)/test/unit/test_%.o $(call objects,$(UNIT_HELPERS)) $(B)/libcli.a \
		$(ARCHIVES) $(LLHTTP_OBJS)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) $(if $(shell grep -l failmalloc test/unit/test_$*.c),$(WRAP) \
		$(call objects,test/unit/failmalloc.c)) $(if $(shell grep -l noloader \
		test/unit/test_$*.c),$(call objects,test/unit/noloader.c)) \
		$(if $(shell grep -l __wrap_regex test/unit/test_$*.c),-Wl$(comma)--wrap=regex_set_match) \
		$< $(B)/libcli.a \
		$(ARCHIVES) $(B)/libpure.a \
		$(LLHTTP_OBJS) $(LIBS) -lcmocka -o $@

CORPORA := http1 opaque config
$(B)/test/fuzz/replay_%: test/fuzz/fuzz_codec.c test/fuzz/replay.c $(ARCHIVES) $(LLHTTP_OBJS)
	@mkdir -p $(@D)
	$(SAY) LD $@
	$(Q)$(CC) $(filter-out -MMD -MP,$(CFLAGS)) $(DEP_CFLAGS) -DCODEC=codec_$* \
		test/fuzz/fuzz_codec.c test/fuzz/replay.c $(B)/libpure.a $(LLHTTP_OBJS) \
		$(LLHTTP_LIBS) -o $@

$(B)/test/count/policy: $(B)/test/count/policy.o $(B)/libpure.a
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) $^ $(CONFIG_LIBS) -o $@

.PHONY: unit-bins check-unit check-pure check-docs check-count
unit-bins: $(UNIT_BINS) $(CORPORA:%=$(B)/test/fuzz/replay_%) $(B)/test/count/policy

check-unit: unit-bins check-pure check-docs ## unit tests, corpus replay, purity, documents
	$(Q)B=$(B) CORPORA="$(CORPORA)" test/unit/run

check-pure: $(B)/libpure.a ## the linker's proof that pure code is pure
	$(Q)test/pure $(B)/libpure.a

check-count: $(B)/test/count/policy ## what a thousand rules cost, in instructions (valgrind)
	$(Q)B=$(B) test/count/run

check-docs: ## every option, reason and metric stands in the man pages
	$(Q)test/docs

# A client or server of the tests is one file, but for the one that plays the cases.
PEER_CASES := $(wildcard test/peer/cases*.c)
PEERS := $(B)/test/peer/cases \
	$(patsubst %.c,$(B)/%,$(filter-out $(PEER_CASES),$(wildcard test/peer/*.c)))
$(B)/test/peer/cases: $(call objects,$(PEER_CASES))
$(B)/test/peer/closes: $(call objects,test/peer/cases_util.c)
$(PEERS): $(B)/%: $(B)/%.o
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) $^ -o $@

# What makes system calls of the daemon fail: loaded into it, so never built with a sanitizer.
SHIM := $(B)/test/fault/shim.so
$(SHIM): test/fault/shim.c
	@mkdir -p $(@D)
	$(SAY) LD $@
	$(Q)$(CC) $(filter-out $(SAN),$(CFLAGS)) -fno-omit-frame-pointer -fPIC -shared $< -o $@

.PHONY: peers
peers: $(PEERS) $(SHIM)

.PHONY: check-netns
check-netns: all $(PROBE_REPORT) peers ## behaviour over network namespaces, with real programs (root)
	$(Q)B=$(B) FACTOR=$(FACTOR) test/netns/run

.PHONY: asan
asan: ## unit and namespace tests under AddressSanitizer and UBSan
	$(Q)$(MAKE) --no-print-directory B=$(B)/asan OPT="-O1 -g" \
		SAN="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer" \
		FACTOR=3 check-unit check-netns

.PHONY: tsan
tsan: ## namespace tests under ThreadSanitizer
	$(Q)$(MAKE) --no-print-directory B=$(B)/tsan OPT="-O1 -g" SAN="-fsanitize=thread" check-netns

.PHONY: check-debian13
check-debian13: ## build and unit tests on Debian 13, in a chroot (root; not part of check)
	$(Q)B=$(B) test/debian13

# ---- fuzzing (clang) ----

FUZZ ?= http1
FUZZ_TIME ?= 0
FUZZ_FLAGS := -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all -g -O1
FUZZ_PURE := $(filter proxy/codec/%,$(PURE_SRCS))
$(B)/fuzz/%: test/fuzz/fuzz_codec.c $(FUZZ_PURE) $(wildcard proxy/codec/*.h)
	@mkdir -p $(@D)
	$(SAY) FUZZ $@
	$(Q)$(CLANG) -std=gnu11 -D_GNU_SOURCE -I. $(FUZZ_FLAGS) $(LLHTTP_CFLAGS) \
		-DCODEC=codec_$* test/fuzz/fuzz_codec.c $(FUZZ_PURE) \
		$(if $(LLHTTP_OBJS),/usr/share/llhttp/api.c /usr/share/llhttp/http.c \
		/usr/share/llhttp/llhttp.c) -w $(LLHTTP_LIBS) -o $@

.PHONY: fuzz fuzz-smoke
fuzz: $(B)/fuzz/$(FUZZ) ## one fuzzer until stopped: make fuzz FUZZ=http1 FUZZ_TIME=60
	mkdir -p $(B)/fuzz/corpus-$(FUZZ)
	$(B)/fuzz/$(FUZZ) -max_total_time=$(FUZZ_TIME) -max_len=8192 -timeout=10 \
		-artifact_prefix=$(B)/fuzz/ $(B)/fuzz/corpus-$(FUZZ) test/fuzz/corpus/$(FUZZ)

fuzz-smoke: ## each fuzzer for twenty seconds
	$(Q)for f in $(CORPORA); do \
		$(MAKE) --no-print-directory fuzz FUZZ=$$f FUZZ_TIME=20 || exit 1; done

# ---- habits ----

C_FILES := $(shell git ls-files '*.c' '*.h' '*.cc' 2>/dev/null)
.PHONY: format format-check lint
format: ## clang-format, in place
	clang-format -i $(C_FILES)
format-check: ## fails where clang-format would change something
	clang-format --dry-run -Werror $(C_FILES)

lint: ## gcc and clang without a warning, shellcheck
	$(Q)test/lint $(B)

# ---- install ----

.PHONY: install uninstall
install: all ## into DESTDIR/PREFIX: programs, man pages, unit file, examples
	install -D -m 0755 $(B)/shuntd $(DESTDIR)$(PREFIX)/sbin/shuntd
	install -D -m 0755 $(B)/shunt $(DESTDIR)$(PREFIX)/bin/shunt
	install -D -m 0644 $(B)/man/shuntd.8 $(DESTDIR)$(PREFIX)/share/man/man8/shuntd.8
	install -D -m 0644 $(B)/man/shunt.1 $(DESTDIR)$(PREFIX)/share/man/man1/shunt.1
	install -D -m 0644 $(B)/man/shunt.yaml.5 $(DESTDIR)$(PREFIX)/share/man/man5/shunt.yaml.5
	sed 's|@PREFIX@|$(PREFIX)|g' config/deploy/shuntd.service.in >$(B)/shuntd.service
	install -D -m 0644 $(B)/shuntd.service \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/shuntd.service
	mkdir -p $(DESTDIR)$(PREFIX)/share/doc/shunt/examples
	cp -r config/examples/. $(DESTDIR)$(PREFIX)/share/doc/shunt/examples/

uninstall: ## takes away what install brought; `shunt detach` first, to release traffic
	rm -f $(DESTDIR)$(PREFIX)/sbin/shuntd $(DESTDIR)$(PREFIX)/bin/shunt \
		$(DESTDIR)$(PREFIX)/share/man/man8/shuntd.8 \
		$(DESTDIR)$(PREFIX)/share/man/man1/shunt.1 \
		$(DESTDIR)$(PREFIX)/share/man/man5/shunt.yaml.5 \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/shuntd.service
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/shunt

-include $(shell find $(addprefix $(B)/,proxy config test bpf) -name '*.d' -type f 2>/dev/null)
endif
