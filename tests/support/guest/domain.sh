#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# domain.sh NAME SERIAL-LOG [--words "KERNEL WORDS"] [--net NETWORK[,MAC]]... [--agent] [--uuid U]
# [--memory MIB] DISK...: the domain XML of a tests' guest (init.sh) with these raw images as vda,
# vdb ... Needs FARSHORE_GUEST. Its disks have the serials DISK0, DISK1 ...
set -euo pipefail
NAME=$1 LOG=$2
shift 2
words='' nets='' agent='' initrd=initrd.img uuid='' memory=192 disks='' n=0
while [ $# -gt 0 ]; do
    case $1 in
    --words) words=$2; shift ;;
    --uuid) uuid="<uuid>$2</uuid>"; shift ;;
    --memory) memory=$2; shift ;;
    --agent)
        initrd="initrd-agent.img"
        agent="<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
        ;;
    --net)
        mac=''
        [ "${2%,*}" = "$2" ] || mac="<mac address='${2#*,}'/>"
        nets+="<interface type='network'>$mac<source network='${2%,*}'/><model type='virtio'/></interface>"
        shift
        ;;
    *)
        letter=$(printf "\\$(printf %o $((97 + n)))")
        disks+="<disk type='file' device='disk'><driver name='qemu' type='raw' cache='none'/>
      <source file='$1'/><target dev='vd$letter' bus='virtio'/><serial>DISK$n</serial></disk>"
        n=$((n + 1))
        ;;
    esac
    shift
done
cat <<XML
<domain type='qemu'>
  <name>$NAME</name>$uuid
  <memory unit='MiB'>$memory</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>$FARSHORE_GUEST/vmlinuz</kernel>
    <initrd>$FARSHORE_GUEST/$initrd</initrd>
    <cmdline>console=ttyS0 quiet panic=1 $words</cmdline>
  </os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>destroy</on_reboot>
  <on_crash>destroy</on_crash>
  <devices>
    $disks
    $nets
    <serial type='file'><source path='$LOG' append='on'/><target port='0'/></serial>
    $agent
    <memballoon model='none'/>
  </devices>
</domain>
XML
