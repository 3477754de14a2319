# SPDX-License-Identifier: Apache-2.0
# The kernel half and its tests. Packages (Debian 12): build-essential clang bpftool libbpf-dev
# libelf-dev iproute2; for check-vm also qemu-system-x86 busybox-static cpio xz-utils.

B ?= build
PKG ?= pkg-config
CFLAGS = -std=gnu11 -D_GNU_SOURCE -O2 -g -Wall -Wextra -Wshadow -Wconversion -Werror \
	-Wstrict-prototypes -Wmissing-prototypes -I.

all: bpf $(B)/bpf/loader.o

include bpf/Makefile.inc
include test/bpf/Makefile.inc
include test/vm/Makefile.inc
