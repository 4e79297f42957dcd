package cow

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysfs is where the kernel tells of the file systems that it has mounted.
const sysfs = "/sys"

// superblock names what the kernel has in memory of the file system that a folder is on:
// from when it is mounted until it is mounted nowhere any more. Another mounting of it, in
// the same boot of the server, has another name; a bind mount, a mount namespace of a
// service's own (each of its starts has new mount ids, so they say nothing), a remount and
// a resize have the same. "" says that it is not known: the kernel tells it of ext4, xfs,
// btrfs and f2fs, where /sys is visible.
//
// Each of these makes a folder in /sys/fs when it is mounted, by its device's name, or
// btrfs by its UUID, and has it until it is unmounted. The inode number of such a folder is
// given to no other one in a boot (before Linux 4.14: to none that is there).
func superblock(dir *os.File, sysfs string) string {
	var at unix.Statfs_t
	var st unix.Stat_t
	if again(func() error { return unix.Fstatfs(int(dir.Fd()), &at) }) != nil || unix.Fstat(int(dir.Fd()), &st) != nil {
		return ""
	}
	path := ""
	switch uint32(at.Type) { // it is signed on some machines
	case unix.BTRFS_SUPER_MAGIC: // its device numbers are none of a device
		path = filepath.Join(sysfs, "fs/btrfs", btrfsID(dir))
	case unix.EXT4_SUPER_MAGIC:
		path = filepath.Join(sysfs, "fs/ext4", deviceName(st.Dev, sysfs))
	case unix.XFS_SUPER_MAGIC:
		path = filepath.Join(sysfs, "fs/xfs", deviceName(st.Dev, sysfs))
	case unix.F2FS_SUPER_MAGIC:
		path = filepath.Join(sysfs, "fs/f2fs", deviceName(st.Dev, sysfs))
	default:
		return ""
	}
	if unix.Lstat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ""
	}
	return fmt.Sprintf("sysfs:%d", st.Ino)
}

// deviceName gives what the kernel calls a block device, and else what names nothing.
func deviceName(dev uint64, sysfs string) string {
	to, err := os.Readlink(fmt.Sprintf("%s/dev/block/%d:%d", sysfs, unix.Major(dev), unix.Minor(dev)))
	if err != nil {
		return nowhere
	}
	return filepath.Base(to)
}

// nowhere is no name in /sys/fs.
const nowhere = "no such file system"

// The kernel's struct btrfs_ioctl_fs_info_args; see linux/btrfs.h.
type btrfsInfo struct {
	_    [2]uint64
	fsid [16]byte
	_    [992]byte
}

const btrfsInfoIoctl = 0x8400941f // BTRFS_IOC_FS_INFO

// btrfsID gives the UUID of a btrfs as it stands in /sys/fs, and else what names nothing.
func btrfsID(dir *os.File) string {
	var info btrfsInfo
	err := again(func() error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, dir.Fd(), btrfsInfoIoctl, uintptr(unsafe.Pointer(&info))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return nowhere
	}
	s := hex.EncodeToString(info.fsid[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// again does a system call until no signal interrupts it.
func again(f func() error) error {
	for {
		if err := f(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// mounted names the superblock of the store's file system; "" is not known.
func (s *Store) mounted() (string, error) {
	d, err := openFolder(s.dir)
	if err != nil {
		return "", err
	}
	defer d.Close()
	return s.superblock(d.File), nil
}

// livesOn reports whether what a record's live bitmap says counts, with the store's file
// system mounted as that: since it was written neither the server was rebooted, nor the
// file system mounted anew. What is not known of the latter speaks for the overlay: a
// version that does not record it may have been the last to open it, or /sys be hidden.
func (s *Store) livesOn(rec Record, mounted string) bool {
	return rec.ServerBoot == s.bootID && !remounted(rec, mounted)
}

func remounted(rec Record, mounted string) bool {
	return rec.ServerMount != "" && mounted != "" && rec.ServerMount != mounted
}
