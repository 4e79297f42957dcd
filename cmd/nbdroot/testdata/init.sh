#!/bin/busybox sh
# /init of the machine that qemu_test.go boots: attach, write while the server
# dies and comes back, read everything again, and say what was seen.
/bin/busybox mkdir -p /proc /sys /dev /mnt /bin
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r m; do insmod "$m"; done </modules.order
nbdroot links || echo "RESULT no carrier"
ip addr add 10.0.2.15/24 dev eth0
nbdroot attach --server 10.0.2.2:@PORT@ --export disk --device nbd0 --deadline 60s || echo "RESULT attach failed"
echo # SeaBIOS leaves its line open
echo "ATTACHED $(cat /sys/block/nbd0/size)"
mount -t ext4 /dev/nbd0 /mnt || echo "RESULT mount failed"
pid=$(pidof @nbdroot)
i=1
while [ $i -le 30 ]; do
	dd if=/dev/urandom of=/mnt/f$i bs=64k count=4 conv=fsync 2>/dev/null || echo "RESULT write $i failed"
	sha256sum /mnt/f$i >>/mnt/sums
	echo "WROTE $i"
	i=$((i + 1))
	kill "$pid" # an accident: it must not care
done
umount /mnt
echo 3 >/proc/sys/vm/drop_caches
mount -t ext4 /dev/nbd0 /mnt
echo "SUMS $(sha256sum -c /mnt/sums | grep -c ': OK$')"
umount /mnt
echo "CMDLINE $(tr '\0' ' ' </proc/$pid/cmdline)"
echo "OOM $(cat /proc/$pid/oom_score_adj)"
grep -E 'VmRSS|VmLck|Threads' /proc/$pid/status
echo "OPEN $(ls -l /proc/$pid/fd | grep -c -E ' /mnt| /bin')"
echo "ERRORS $(dmesg | grep -c -E 'I/O error|EXT4-fs error|Buffer I/O')"
dmesg | grep -E 'nbd' | tail -40
echo "RESULT done"
poweroff -f
