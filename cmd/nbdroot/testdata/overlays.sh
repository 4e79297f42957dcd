#!/bin/busybox sh
# /init of the machine that overlays_test.go boots: file systems on overlays of every
# kind, written to and synced while the daemon is killed, and read again.
/bin/busybox mkdir -p /proc /sys /dev /bin /mnt/boot /mnt/host /mnt/copy
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r m; do insmod "$m"; done </modules.order
nbdroot links || echo "RESULT no carrier"
ip addr add 10.0.2.15/24 dev eth0
attach() {
	nbdroot attach --server 10.0.2.2:@PORT@ --export "$1" --device "$2" --deadline 60s || echo "RESULT $1 is not attached"
}
attach boot@@EXT4@ nbd0
attach host@@BTRFS@ nbd1
attach copy@@EXT4@ nbd2
attach limited@@EXT4@ nbd3
echo # SeaBIOS leaves its line open
mounts() {
	mount -t ext4 /dev/nbd0 /mnt/boot || echo "RESULT boot is not mounted"
	mount -t btrfs -o compress=lzo /dev/nbd1 /mnt/host || echo "RESULT host is not mounted"
	mount -t ext4 /dev/nbd2 /mnt/copy || echo "RESULT copy is not mounted"
}
mounts
i=1
while [ $i -le 12 ]; do
	for fs in boot host copy; do
		{ dd if=/dev/urandom bs=32k count=2; dd if=/dev/zero bs=32k count=2; } 2>/dev/null >/mnt/$fs/new
		sync /mnt/$fs/new || echo "RESULT $fs: sync $i failed"
		mv /mnt/$fs/new /mnt/$fs/f$i
		sha256sum /mnt/$fs/f$i >>/mnt/$fs/sums
		sync /mnt/$fs/sums || echo "RESULT $fs: sync of sums $i failed"
	done
	echo "WROTE $i"
	i=$((i + 1))
done
n=0
while [ $n -lt 100 ] && dd if=/dev/zero of=/dev/nbd3 bs=64k count=1 seek=$n conv=fsync,notrunc 2>/dev/null; do n=$((n + 1)); done
echo "LIMIT $n"
dd if=/dev/zero of=/dev/nbd3 bs=64k count=1 seek=3 conv=fsync,notrunc 2>/dev/null && echo "HELD yes"
dd if=/dev/urandom of=/mnt/boot/beside bs=64k count=64 conv=fsync 2>/dev/null && echo "BESIDE yes"
umount /mnt/boot /mnt/host /mnt/copy
echo 3 >/proc/sys/vm/drop_caches
mounts
for fs in boot host copy; do
	echo "SUMS_$fs $(sha256sum -c /mnt/$fs/sums | grep -c ': OK$')"
done
umount /mnt/boot /mnt/host /mnt/copy
echo "ERRORS $(dmesg | grep -E 'I/O error|EXT4-fs error|BTRFS (error|critical)|Buffer I/O' | grep -v -c nbd3)"
dmesg | grep -E 'nbd|EXT4|BTRFS' | tail -40
echo "RESULT done"
poweroff -f
