#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What the machine of tests/servers/in_debian.sh runs on its second disk, which is /mnt: the
# end-to-end tests that /mnt/list names, a line each, with words of their environment before them.
export TMPDIR=/mnt/tmp PATH=/usr/sbin:/usr/bin:/sbin:/bin
echo "IN DEBIAN kernel $(uname -r), $(nproc) processors"
while read -r -a words; do
    began=$SECONDS status=0
    env "${words[@]:0:${#words[@]}-1}" bash "/mnt/tests/e2e/${words[-1]}_test.sh" /mnt /mnt/build/farshore \
        </dev/null || status=$?
    echo "IN DEBIAN ${words[*]}: exit $status, $((SECONDS - began)) s"
done </mnt/list 2>&1
echo "IN DEBIAN done"
