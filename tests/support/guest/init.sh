#!/bin/busybox sh
# SPDX-License-Identifier: MIT
# The tests' guest: process 1 of a machine that has nothing but busybox and counter.c. What it says
# on the serial console begins with GUEST. Words of the kernel's command line:
#   pause=MS   between two records (200)       most=N    records, then it powers off (0: never)
#   log=raw    counts on its disks themselves, all of them (else: /mnt/log on ext4 on the first)
#   dhcp=1     asks each network card's DHCP server and says "GUEST ADDRESS eth0 10.0.0.5/24"
# It powers off by the ACPI button, and by the guest agent where it has one.
# shellcheck shell=dash disable=SC2154
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r module; do insmod "/modules/$module"; done </modules/order
pause=200 most=0 log=ext4 dhcp=0
for word in $(cat /proc/cmdline); do
    case $word in pause=* | most=* | log=* | dhcp=*) eval "$word" ;; esac
done

i=0
until [ -b /dev/vda ] || [ $i -ge 100 ]; do i=$((i + 1)); sleep 0.1; done
disks=$(for d in /dev/vd[a-z]; do [ -b "$d" ] && echo "$d"; done)
read -r up _ </proc/uptime
echo "GUEST UP $up $(for d in $disks; do
    echo "${d#/dev/}=$(blockdev --getsize64 "$d"),$(cat "/sys/block/${d#/dev/}/serial" 2>/dev/null)"
done | tr '\n' ' ')"
for card in /sys/class/net/eth*; do
    [ -e "$card" ] || continue
    echo "GUEST CARD ${card##*/} $(cat "$card/address")"
    ip link set "${card##*/}" up
    # -R: one that ends gives its lease back; a guest that is killed keeps it, as any would.
    [ "$dhcp" = 0 ] || udhcpc -i "${card##*/}" -n -q -t 20 -T 1 -s /etc/udhcpc.sh >/dev/null 2>&1 ||
        echo "GUEST NO-ADDRESS ${card##*/}"
done
ip link set lo up

# A clean end, whoever asks for it: the counter stops between two records.
mkdir -p /etc/acpi/PWRF /run /tmp
printf '#!/bin/sh\nexec /bin/off\n' >/etc/acpi/PWRF/00000080
cat >/bin/off <<'OFF'
#!/bin/sh
echo "GUEST OFF" >/dev/console
kill $(pidof counter)
while pidof counter >/dev/null; do sleep 0.1; done
umount /mnt 2>/dev/null
sync
poweroff -f
OFF
chmod +x /bin/off /etc/acpi/PWRF/00000080
ln -sf off /bin/shutdown # what the agent calls
mkdir -p /sbin && ln -sf /bin/off /sbin/shutdown
acpid -d >/dev/null 2>&1 &

if [ -x /bin/qemu-ga ]; then
    for port in /sys/class/virtio-ports/*; do
        [ "$(cat "$port/name" 2>/dev/null)" = org.qemu.guest_agent.0 ] || continue
        mkdir -p /dev/virtio-ports
        ln -s "/dev/${port##*/}" /dev/virtio-ports/org.qemu.guest_agent.0
        qemu-ga -d -t /run -f /run/qga.pid -l /run/qga.log && echo "GUEST AGENT"
    done
fi

if [ "$log" = ext4 ]; then
    if ! mount -t ext4 /dev/vda /mnt; then
        echo "GUEST MOUNT-FAILED"
        poweroff -f
    fi
    disks=/mnt/log
fi
# shellcheck disable=SC2086
counter run "$pause" "$most" $disks
status=$?
[ $status -ne 143 ] || while :; do sleep 1; done # /bin/off does the rest
echo "GUEST END status=$status"
umount /mnt 2>/dev/null
poweroff -f
