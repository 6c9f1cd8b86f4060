#!/bin/bash
# SPDX-License-Identifier: MIT
# The layers: common <- backend <- fs <- tools. No include points up, libfuse is known in fs/mount
# only, nothing but tools prints or ends the process, and every file names its licence.
set -u
cd "$1" || exit 2
failed=0

complain() { # WHAT LINES
    [ -z "$2" ] && return
    printf '%s:\n%s\n' "$1" "$2"
    failed=1
}

complain "common includes what lies above" \
    "$(grep -rnE '#include "(backend|fs|tools|tests)/' common)"
complain "backend includes what lies above" "$(grep -rnE '#include "(fs|tools|tests)/' backend)"
complain "fs includes what lies above" "$(grep -rnE '#include "(tools|tests)/' fs)"
complain "tools includes tests" "$(grep -rnE '#include "tests/' tools)"
complain "the disk engine includes the mount" \
    "$(grep -rnE '#include "fs/mount/' fs/disk fs/view)"
complain "libfuse outside fs/mount" \
    "$(grep -rnE '#include [<"]fuse' common backend fs/disk fs/view tools)"
complain "libvirt outside its place" \
    "$(grep -rnE '#include [<"]libvirt/' common backend fs tools |
        grep -vE '^tools/failover/virt_libvirt')"
# common/log.c is where log lines go out; common/digest.c ends a process whose OpenSSL is broken.
complain "printing or ending outside tools" \
    "$(grep -rnE '\b(printf|puts|putchar|perror|fputs|fprintf|exit|abort)\(' common backend fs |
        grep -vE '^common/(log|digest)\.c:')"
complain "no SPDX line" \
    "$(grep -rL --include='*.[ch]' --include='*.sh' 'SPDX-License-Identifier: MIT' \
        common backend fs tools tests)"
exit $failed
