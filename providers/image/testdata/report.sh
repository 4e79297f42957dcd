#!/bin/sh
# Runs on the machine that boot_test.go boots, once multi-user is reached: says on
# the console what the system looks like, writes while the server is killed, and
# shuts down.
say() { echo "SEEN $1: $2" >/dev/console; }

say pid1 "$(cat /proc/1/comm)"
say hostname "$(hostname)"
say hosts "$(grep -c "^127.0.1.1	$(hostname)$" /etc/hosts)"
say resolv "$(tr '\n' ' ' </etc/resolv.conf)"
say machine-id "$(cat /etc/machine-id) $(cat /var/lib/dbus/machine-id)"
say running-id "$(systemd-id128 machine-id)"
say settled "$(stat -c '%u:%g %a' /etc/settled) $(cat /etc/settled)"
say scratch "$(findmnt -n -o SOURCE,FSTYPE,OPTIONS /srv/scratch | tr -s ' ')"
say state "$(findmnt -n -o SOURCE /var/lib/app) $(stat -c '%U:%G %a' /var/lib/app/seed) $(cat /var/lib/app/seed /var/lib/app/mine | tr '\n' ' ')"
say ssh "$(systemctl is-active dlreconcile-identity.service ssh.service | tr '\n' ' ')$(ls /etc/ssh | grep -c '^ssh_host_.*_key$')"
say cycles "$(journalctl -b --no-pager | grep -c 'ordering cycle')"
say root "$(findmnt -n -o SOURCE,FSTYPE / | tr -s ' ')"
say lower "$(findmnt -n -o SOURCE,FSTYPE /run/dlreconcile/lower | tr -s ' ')"
say writable "$(touch /written && echo yes)"
say network "$(cat /run/systemd/network/00-dlreconcile.network | tr '\n' ' ')"
say networkd "$(networkctl --no-legend list eth0 2>/dev/null | awk '{print $4, $5}')"
say owner "$(stat -c '%U:%G %a %s' /etc/secret)"
say link "$(readlink /etc/alias)"
say zone "$(date +%Z)"
say capability "$(getcap /usr/bin/ping 2>/dev/null)"
say argv0 "$(tr '\0' ' ' </proc/$(cat /run/sendsigs.omit.d/nbdroot)/cmdline | cut -d' ' -f1)"
say failed "$(systemctl --failed --no-legend --plain | awk '{print $1}' | tr '\n' ' ')"
i=1
while [ $i -le 20 ]; do
	dd if=/dev/urandom of=/var/tmp/f$i bs=64k count=4 conv=fsync 2>/dev/null || say write failed
	sha256sum /var/tmp/f$i >>/var/tmp/sums
	echo "SEEN wrote: $i" >/dev/console
	i=$((i + 1))
done
sync
echo 3 >/proc/sys/vm/drop_caches
say sums "$(sha256sum -c /var/tmp/sums | grep -c ': OK$')"
say errors "$(dmesg | grep -c -E 'I/O error|EXT4-fs error|SQUASHFS error')"
say done yes
systemctl --no-block poweroff
