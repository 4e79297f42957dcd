package export

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountFile mounts the file system in a file, read-only, where nobody else sees it: the
// mount has no place in any namespace. root is a path to it that holds until detach is
// called. With readOnly the file itself is never written to; without, a journal is played
// back into it. What the file system says should happen upon an error, a panic of the
// kernel for one, does not.
func mountFile(path, typ string, readOnly bool) (root string, detach func(), err error) {
	var options []string
	switch typ {
	case "ext4":
		if readOnly {
			options = []string{"noload"}
		}
	case "btrfs":
	default:
		return "", nil, fmt.Errorf("nobody writes to a file system of the type %q", typ)
	}
	loop, err := loopOf(path, readOnly)
	if err != nil {
		return "", nil, err
	}
	defer loop.Close() // the mount keeps it
	fd, err := unix.Fsopen(typ, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("mounting: %w", err)
	}
	defer unix.Close(fd)
	err = unix.FsconfigSetString(fd, "source", loop.Name())
	if err == nil && typ == "ext4" {
		err = unix.FsconfigSetString(fd, "errors", "continue")
	}
	for _, o := range append(options, "ro") {
		if err == nil {
			err = unix.FsconfigSetFlag(fd, o)
		}
	}
	if err == nil {
		err = unix.FsconfigCreate(fd)
	}
	if err != nil {
		return "", nil, fmt.Errorf("mounting: %w", err)
	}
	m, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	if err != nil {
		return "", nil, fmt.Errorf("mounting: %w", err)
	}
	return fmt.Sprintf("/proc/self/fd/%d", m), func() { unix.Close(m) }, nil
}

// loopOf makes a loop device of a file. It goes when its last user does.
func loopOf(path string, readOnly bool) (*os.File, error) {
	mode, flags := os.O_RDWR, uint32(unix.LO_FLAGS_AUTOCLEAR)
	if readOnly {
		mode, flags = os.O_RDONLY, flags|unix.LO_FLAGS_READ_ONLY
	}
	f, err := os.OpenFile(path, mode, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("it takes a loop device: %w", err)
	}
	defer control.Close()
	const tries = 20 // somebody else may take it in between
	for range tries {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, fmt.Errorf("it takes a loop device: %w", err)
		}
		dev, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), mode, 0)
		if err != nil {
			return nil, fmt.Errorf("it takes a loop device: %w", err)
		}
		c := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: flags}}
		if err = unix.IoctlLoopConfigure(int(dev.Fd()), &c); err == nil {
			return dev, nil
		}
		dev.Close()
		if !errors.Is(err, unix.EBUSY) {
			return nil, fmt.Errorf("it takes a loop device: %w", err)
		}
	}
	return nil, errors.New("it takes a loop device, and others are faster")
}
