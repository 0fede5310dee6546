# make          build: virtual environment, bpf objects; the command is .venv/bin/vendorgate
# make demo     the lab of the README (root)
# make fast     build, and compile what every message passes through
# make test     everything CI runs (root)
# make bench    the benchmarks (root)
# make deb      the Debian package, build/deb/latest/vendorgate_*.deb
# make test-install  the package on a Debian of its own, from installation to purge (root)
# Each installs what it needs and may be repeated. `make check` needs no root: style, types, pure tests.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
BPF := $(patsubst %.bpf.c,%.bpf.o,$(wildcard bpf/*.bpf.c))

BUILD_PACKAGES := clang llvm libbpf-dev libbpf1 bpftool gcc libc6-dev python3-venv python3-dev
RUN_PACKAGES := nftables iproute2 util-linux
LAB_PACKAGES := postgresql postgresql-client postgresql-contrib tshark nginx-light git wget curl openssl mariadb-server mariadb-client libmariadb-dev pkg-config rpm redis-tools nodejs zstd tinyproxy-bin groff-base dnsmasq-base bind9-dnsutils iputils-ping ntpsec-ntpdig
DEB_PACKAGES := build-essential debhelper dh-virtualenv lintian
INSTALL_PACKAGES := debootstrap debian-archive-keyring systemd-container
PYTEST := $(PY) -m pytest -q

.PHONY: fast bench-packages bench-install all venv bpf packages lab-packages lab-install npm demo picture test check bench deb install-packages test-install clean

all: packages venv bpf

# Debian packages by name, only those that are not there.
define install
	@missing=$$(for p in $(1); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  command -v apt-get >/dev/null || { echo "make: no apt-get here: install by hand, by their names on this system:" $$missing >&2; exit 3; }; \
	  [ $$(id -u) = 0 ] || { echo "make: needs root to install:" $$missing "(run: sudo make)" >&2; exit 3; }; \
	  echo "installing" $$missing; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi
endef

packages:
	$(call install,$(BUILD_PACKAGES) $(RUN_PACKAGES))

# The lab starts servers of its own: packages must not start one on the host, now (policy-rc.d) or when it boots.
LAB_UNITS := mariadb nginx
lab-packages: packages
	@if ! dpkg -s postgresql >/dev/null 2>&1; then \
	  mkdir -p /etc/postgresql-common/createcluster.d && \
	  echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.d/vendorgate.conf; fi
	@if ! dpkg -s $(LAB_PACKAGES) >/dev/null 2>&1 && [ ! -e /usr/sbin/policy-rc.d ]; then \
	  trap 'rm -f /usr/sbin/policy-rc.d' EXIT; \
	  printf '#!/bin/sh\n# of vendorgate, while make runs\nexit 101\n' >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; \
	  $(MAKE) --no-print-directory lab-install; \
	else $(MAKE) --no-print-directory lab-install; fi
	@rm -f /etc/postgresql-common/createcluster.d/vendorgate.conf

lab-install:
	@for u in $(LAB_UNITS); do \
	  [ -e /lib/systemd/system/$$u.service ] || touch /run/vendorgate-lab-$$u; done
	$(call install,$(LAB_PACKAGES))
	@for u in $(LAB_UNITS); do [ ! -e /run/vendorgate-lab-$$u ] || \
	  { rm -f /run/vendorgate-lab-$$u; systemctl disable -q $$u 2>/dev/null || true; }; done

# Drivers of Node, for the tests with real clients.
build/node/.built: tests/peer/node/package.json tests/peer/node/package-lock.json
	@command -v npm >/dev/null || { $(MAKE) --no-print-directory npm; }
	@mkdir -p build/node && cp tests/peer/node/package*.json tests/peer/node/.npmrc build/node/
	cd build/node && npm ci --silent
	@touch $@

npm:
	$(call install,npm)

# The tests of MariaDB's C client: one program of a package that would take 290 MB.
build/mariadb-test/.built: | lab-packages
	@mkdir -p build/mariadb-test && rm -f build/mariadb-test/*.deb
	cd build/mariadb-test && fetch="apt-get download -qq -o APT::Sandbox::User=root mariadb-test"; \
	  $$fetch 2>/dev/null || { apt-get update -qq && $$fetch; }
	dpkg --fsys-tarfile build/mariadb-test/*.deb | tar -x -C build/mariadb-test ./usr/bin/mariadb-client-test
	@rm -f build/mariadb-test/*.deb && touch $@

venv: $(VENV)/.built

$(VENV)/.built: pyproject.toml | packages
	test -x $(PY) || /usr/bin/python3 -m venv $(VENV)
	$(VENV)/bin/pip install -q --disable-pip-version-check -e '.[test]'
	@touch $@

bpf: $(BPF)

bpf/vmlinux.h: | packages
	bpftool btf dump file /sys/kernel/btf/vmlinux format c >$@.new && mv $@.new $@

bpf/%.bpf.o: bpf/%.bpf.c $(filter-out bpf/vmlinux.h,$(wildcard bpf/*.h)) bpf/vmlinux.h
	clang -O2 -g -ffile-prefix-map=$(CURDIR)=. -Wall -Werror -target bpf -D__TARGET_ARCH_$(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/') -c $< -o $@

# The modules on the path of every message, compiled; used for as long as their sources stay what they are.
fast: all
	$(PY) -m appliance.compiled

demo: all lab-packages
	$(VENV)/bin/vendorgate demo

# The picture of the demo in README.md: its first three steps.
picture: all lab-packages
	script -qec "$(VENV)/bin/vendorgate demo" /dev/null | sed -n '/1. The agent/,/^.*4. MariaDB/p' | sed '$$d' | $(PY) -m appliance.lab.picture >appliance/lab/demo.svg

check: venv
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(PYTEST) -m 'not kernel and not peer and not slow'

test: all lab-packages install-packages build/node/.built build/mariadb-test/.built
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	tests/lanes

# What the benchmarks put beside it; no dependency of anything else. Services of it that a package starts are stopped.
BENCH_PACKAGES := pgbouncer haproxy
build/mitmproxy/.built: | packages
	test -x build/mitmproxy/bin/python || /usr/bin/python3 -m venv build/mitmproxy
	build/mitmproxy/bin/pip install -q --disable-pip-version-check mitmproxy
	@touch $@

bench-packages: lab-packages
	@new=$$(for p in $(BENCH_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	$(MAKE) --no-print-directory bench-install && \
	for p in $$new; do systemctl disable -q --now $$p 2>/dev/null || true; done

bench-install:
	$(call install,$(BENCH_PACKAGES))

bench: fast bench-packages build/mitmproxy/.built
	$(PY) -m pytest -q -s tests/bench --override-ini python_files='bench_*.py'

deb: packages
	$(call install,$(DEB_PACKAGES))
	debian/build

install-packages: packages
	$(call install,$(DEB_PACKAGES) $(INSTALL_PACKAGES))

test-install: venv install-packages
	tests/install/base build/install/base & base=$$!; debian/build && wait $$base
	$(PYTEST) --durations=10 -x tests/install --override-ini python_files='accept_*.py'

clean:
	rm -rf $(VENV) bpf/*.bpf.o bpf/vmlinux.h build *.egg-info
