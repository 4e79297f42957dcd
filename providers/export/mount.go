package export

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// mountFile mounts the file system in a file, read-only, where nobody else sees it: the
// mount has no place in any namespace. root is a path to it that holds until detach is
// called. The file itself is never written to, and nothing is played back. What the file
// system says should happen upon an error, a panic of the kernel for one, does not.
func mountFile(path, typ string) (root string, detach func(), err error) {
	var values [][2]string
	options := []string{"ro"}
	switch typ {
	case "ext4":
		options = append(options, "noload")
		values = [][2]string{{"errors", "continue"}}
	case "btrfs":
		values = [][2]string{{"rescue", "nologreplay"}}
	default:
		return "", nil, fmt.Errorf("nobody writes to a file system of the type %q", typ)
	}
	loop, err := loopOf(path)
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
	for _, s := range values {
		if err == nil {
			err = unix.FsconfigSetString(fd, s[0], s[1])
		}
	}
	for _, o := range options {
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

// loopOf makes a loop device of a file, which is never written to. It goes when its last
// user does.
func loopOf(path string) (*os.File, error) {
	f, err := os.Open(path)
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
		dev, err := os.Open(fmt.Sprintf("/dev/loop%d", n))
		if err != nil {
			return nil, fmt.Errorf("it takes a loop device: %w", err)
		}
		c := unix.LoopConfig{Fd: uint32(f.Fd()), Info: unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR | unix.LO_FLAGS_READ_ONLY}}
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
