# SPDX-License-Identifier: MIT
# The lists of Debian packages: what building and the demo need, what the tests need besides, and
# what the long set needs besides those.
# Source it and call packages_install from the top of the source tree.
# shellcheck shell=bash disable=SC2034
PACKAGES=(
    gcc cmake ninja-build pkg-config
    libssl-dev libzstd-dev libcjson-dev libfuse3-dev libcurl4-openssl-dev libxml2-dev
    fuse3 e2fsprogs util-linux procps jq
)
TEST_PACKAGES=(
    clang libclang-rt-dev clang-format libcmocka-dev libmicrohttpd-dev
    xfsprogs iproute2 mandoc xxd fio curl openssl
    radosgw ceph-mon ceph-osd ceph-common # a real S3; its daemons are started by the tests alone
)
LONG_PACKAGES=(
    swift-proxy swift-account swift-container swift-object # a store that must be refused
)
command -v npm >/dev/null || TEST_PACKAGES+=(nodejs npm) # for Azurite, a real Azure Blob service

# packages_install PACKAGE...: installs what is missing; without root it says what to install.
packages_install() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
            missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" -ne 0 ]; then
        echo "missing packages; as root: apt-get install --no-install-recommends ${missing[*]}" >&2
        return 1
    fi
    echo "installing ${missing[*]}"
    apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" >/dev/null
}
