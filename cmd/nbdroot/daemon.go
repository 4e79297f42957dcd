package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// residentVerb marks the process that stays. argv[0] starting with '@' is what
// makes systemd leave it alone at shutdown (systemd.io/ROOT_STORAGE_DAEMONS):
// killed any earlier, the root could not be unmounted.
const (
	residentVerb = "resident"
	residentName = "@nbdroot"
)

// startResident starts the process that stays, and returns when it has attached
// the device or says why not.
func startResident(t target) error {
	// The flag is inherited over fork and exec, and by every thread: setting it
	// here covers all threads of the child, which its own call could not.
	// Memory reclaim on behalf of an I/O flusher never waits for the root.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_IO_FLUSHER, 1, 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("attach needs root: io flusher: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		w.Close()
		return err
	}
	argv := []string{residentName, residentVerb, "--server", t.server.String(), "--export", t.export,
		"--device", t.device(), "--instance", "-", "--deadline", t.deadline.String()}
	// os/exec would make the program a tenth larger.
	child, err := os.StartProcess(exe, argv, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"GOMAXPROCS=1"},
		Files: []*os.File{null, null, null, w},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	null.Close()
	w.Close()
	if err != nil {
		return err
	}
	said, err := io.ReadAll(io.LimitReader(r, 4096))
	if err == nil && string(said) == attached {
		if t.pidfile != "" {
			// For sysvinit, which spares the processes named in
			// /run/sendsigs.omit.d; the root is there without it.
			if err := os.WriteFile(t.pidfile, []byte(strconv.Itoa(child.Pid)+"\n"), 0o644); err != nil {
				fmt.Fprintln(os.Stderr, "nbdroot:", err)
			}
		}
		return child.Release()
	}
	state, werr := child.Wait()
	if err = errors.Join(err, werr); err != nil {
		return err
	}
	if len(said) == 0 {
		return fmt.Errorf("the resident process died: %s", state)
	}
	return errors.New(string(said))
}

// attached is what the resident process writes to its parent; anything else is an
// error message.
const attached = "attached\n"

// runResident is the process that stays. It returns only when it could not
// attach, or the device is gone.
func runResident(t target) error {
	parent := os.NewFile(3, "parent")
	log := openConsole(notice)
	err := runDevice(t, log, func() error {
		_, err := io.WriteString(parent, attached)
		parent.Close()
		return err
	})
	// Before the device is attached somebody listens; afterwards the write fails.
	io.WriteString(parent, err.Error())
	log("%v", err)
	return err
}

func runDevice(t target, log func(string, ...any), ready func() error) error {
	// Whoever stops this process by accident stops the machine.
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGPIPE)
	if err := stayResident(); err != nil {
		return err
	}
	dev, err := openKernelNBD(t.index)
	if err != nil {
		return err
	}
	defer dev.close()
	r := &resident{
		target: t, dev: dev, log: log,
		dial:  dialTo(t),
		pause: func() { time.Sleep(retryEvery) }, now: time.Now,
		negotiateTimeout: requestTimeout * time.Second,
	}
	if err := r.attach(); err != nil {
		return err
	}
	if err := waitSize(t.device(), r.have.size); err != nil {
		return err
	}
	log("%s is %q from %s, %d MiB", t.device(), t.export, t.server, r.have.size>>20)
	if err := ready(); err != nil {
		return err
	}
	// From here on no file is touched: all of them may be on the root.
	return r.keep()
}

// stayResident makes sure that neither memory pressure nor its remedies stop the
// process that memory may have to be written through.
func stayResident() error {
	// On fault: what is used stays, what the Go runtime only reserves costs
	// nothing (40 MiB otherwise). The program text is in the initramfs, which is
	// memory already.
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Errorf("lock memory: %w", err)
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return fmt.Errorf("oom score: %w", err)
	}
	return nil
}

// waitSize waits until the block device has its size: the kernel sets it while it
// handles CONNECT, but says so in sysfs a moment later.
func waitSize(device string, size uint64) error {
	want := strconv.FormatUint(size/512, 10)
	got := ""
	for range 100 {
		b, err := os.ReadFile("/sys/block/" + device + "/size")
		if err != nil {
			return fmt.Errorf("size of %s: %w", device, err)
		}
		if got = strings.TrimSpace(string(b)); got == want {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return fmt.Errorf("%s has %s sectors, expected %s", device, got, want)
}
