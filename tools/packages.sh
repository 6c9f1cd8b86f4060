# SPDX-License-Identifier: MIT
# The one list of Debian packages that building, testing and the demo need. Source it and call
# packages_install from the top of the source tree.
# shellcheck shell=bash
PACKAGES=(
    gcc clang libclang-rt-dev cmake ninja-build pkg-config
    libssl-dev libzstd-dev libcjson-dev libfuse3-dev libcurl4-openssl-dev libxml2-dev
    libcmocka-dev libmicrohttpd-dev
    fuse3 e2fsprogs xfsprogs util-linux iproute2 procps
    clang-format mandoc jq xxd fio
)

# Installs what is missing; without root it says what to install.
packages_install() {
    local missing=() package
    for package in "${PACKAGES[@]}"; do
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
