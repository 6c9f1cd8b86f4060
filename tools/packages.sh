# SPDX-License-Identifier: MIT
# What the scripts here share: the lists of Debian packages (what building and the demo need, what
# the tests need besides, what the long set needs besides those), packages_install and build.
# Source it at the top of the source tree.
# shellcheck shell=bash disable=SC2034
PACKAGES=(
    gcc cmake ninja-build pkg-config
    libssl-dev libzstd-dev libcjson-dev libfuse3-dev libcurl4-openssl-dev libxml2-dev
    libvirt-dev # optional
    fuse3 e2fsprogs util-linux procps jq
)
TEST_PACKAGES=(
    clang libclang-rt-dev clang-format libcmocka-dev libmicrohttpd-dev
    xfsprogs iproute2 mandoc xxd fio curl openssl ca-certificates
    radosgw ceph-mon ceph-osd ceph-common # a real S3; its daemons are started by the tests alone
    nghttp2-proxy                         # speaks HTTP/2 before a server
    libvirt-daemon-system libvirt-clients # virtual machines, emulated where there is no KVM
    qemu-system-x86 qemu-utils dnsmasq-base iptables
    busybox-static linux-image-cloud-amd64 cpio qemu-guest-agent # what runs in them
)
LONG_PACKAGES=(
    swift-proxy swift-account swift-container swift-object # a store that must be refused
)
command -v npm >/dev/null || TEST_PACKAGES+=(nodejs npm) # for Azurite, a real Azure Blob service

# packages_install PACKAGE...: installs what is missing; without root it says what to install.
packages_install() {
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *'ok installed' ]] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq && install_quietly "${missing[@]}"
}

# No service starts because its package was installed: Ceph's and Swift's would, under systemd. Where
# the machine has a policy of its own, that one holds.
install_quietly() (
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
)

build() { # FOLDER OPTION...: configures and builds there
    local folder=$1
    shift
    echo "== building $folder"
    cmake -S . -B "$folder" -G Ninja "$@" >/dev/null
    cmake --build "$folder" -j "$(nproc)" >"$folder/build.log" || { tail -50 "$folder/build.log"; exit 1; }
}
build_optimised() { build build -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=RelWithDebInfo; }
