package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Machine is one running QEMU, cabled to the lab's bridge. It lives until its guest
// powers off, Quit, Kill, or the lab's Close; it cannot outlive this process. Its
// methods are safe for concurrent use.
type Machine struct {
	name    string
	mac     provider.MAC
	lab     *Lab
	tap     string
	log     string // file of the console
	cmd     *exec.Cmd
	stderr  tail
	console *console
	serial  *os.File
	qmp     *qmp
	began   time.Time

	done chan struct{}
	err  error // how it ended; read after done
}

// startLimit bounds the start of QEMU itself, firmware not included.
const startLimit = time.Minute

// Machine starts a machine. ctx bounds the call, not the machine's life. A machine
// that was started and has ended may be started again under the same name.
func (l *Lab) Machine(ctx context.Context, c MachineConfig) (*Machine, error) {
	m, err := l.startMachine(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", c.Name, err)
	}
	return m, nil
}

func (l *Lab) startMachine(ctx context.Context, c MachineConfig) (*Machine, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	end, err := l.begin()
	if err != nil {
		return nil, err
	}
	defer end()
	m := &Machine{name: c.Name, mac: c.MAC, lab: l, console: newConsole(), done: make(chan struct{})}
	if err := l.register(m); err != nil {
		return nil, err
	}
	if err := m.start(ctx, c); err != nil {
		l.unregister(m)
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if _, err := m.qmp.execute(ctx, "qmp_capabilities", nil); err != nil {
		m.Kill()
		return nil, fmt.Errorf("qemu does not start: %w: %s", err, m.stderr.String())
	}
	l.log.Debug("machine started", "machine", m.name, "mac", m.mac, "firmware", c.Firmware, "console", m.log)
	return m, nil
}

// register refuses a name or hardware address that a running machine has.
func (l *Lab) register(m *Machine) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for other := range l.machines {
		if other.mac == m.mac {
			return fmt.Errorf("machine %s has the hardware address %v and runs", other.name, m.mac)
		}
		if other.name == m.name {
			return errors.New("a machine of that name runs")
		}
	}
	l.machines[m] = struct{}{}
	return nil
}

func (l *Lab) unregister(m *Machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.machines, m)
}

// start makes the machine's network device, its channels and its process.
func (m *Machine) start(ctx context.Context, c MachineConfig) (err error) {
	l := m.lab
	m.tap = l.port("tap")
	defer func() {
		if err != nil {
			err = errors.Join(err, m.removeTap())
		}
	}()
	if err := l.ns.setup(ctx,
		"tuntap add dev "+m.tap+" mode tap",
		"link set "+m.tap+" master "+Bridge+" addrgenmode none up",
	); err != nil {
		return err
	}
	var vars string
	if _, initial := c.Firmware.ovmf(); initial != "" {
		blank, err := os.ReadFile(initial)
		if err != nil {
			return fmt.Errorf("UEFI firmware: %w", err)
		}
		vars = l.file(clean(c.Name), "efivars")
		if err := os.WriteFile(vars, blank, 0o600); err != nil {
			return err
		}
	}
	serial, serialQEMU, err := socketPair("console")
	if err != nil {
		return err
	}
	defer serialQEMU.Close()
	control, controlQEMU, err := socketPair("qmp")
	if err != nil {
		return errors.Join(err, serial.Close())
	}
	defer controlQEMU.Close()

	m.log = l.file(clean(c.Name), "console")
	m.cmd = exec.Command("qemu-system-x86_64", c.args(m.tap, vars, m.log)...)
	m.cmd.Stdout, m.cmd.Stderr = &m.stderr, &m.stderr
	m.cmd.ExtraFiles = []*os.File{consoleFD - 3: serialQEMU, qmpFD - 3: controlQEMU}
	// A process group of its own: Ctrl-C on our terminal is ours to answer.
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	m.began = time.Now()
	l.starter.do(func() { err = m.cmd.Start() })
	if err != nil {
		return errors.Join(err, serial.Close(), control.Close())
	}
	m.serial, m.qmp = serial, newQMP(control)
	go m.run()
	return nil
}

// run owns the process and its two readers, and cleans up behind them.
func (m *Machine) run() {
	var readers sync.WaitGroup
	readers.Go(func() { m.console.follow(m.serial) })
	readers.Go(m.qmp.run)
	m.err = m.cmd.Wait()
	readers.Wait() // they end with the process, which held the other ends
	m.serial.Close()
	m.qmp.file.Close()
	if err := m.removeTap(); err != nil {
		m.lab.log.Warn("machine's network device stays", "machine", m.name, "err", err)
	}
	m.lab.unregister(m)
	m.lab.log.Debug("machine ended", "machine", m.name, "status", m.cmd.ProcessState)
	close(m.done)
}

func (m *Machine) removeTap() error {
	ctx, cancel := context.WithTimeout(context.Background(), removeTime)
	defer cancel()
	return m.lab.ns.setup(ctx, "link delete "+m.tap)
}

// socketPair gives two connected descriptors: ours, with deadlines, and the child's.
func socketPair(name string) (ours, child *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	child = os.NewFile(uintptr(fds[1]), name)
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		return nil, nil, errors.Join(err, child.Close())
	}
	return os.NewFile(uintptr(fds[0]), name), child, nil
}

// Name is the name that the machine was started with.
func (m *Machine) Name() string { return m.name }

// MAC is the hardware address of its network card.
func (m *Machine) MAC() provider.MAC { return m.mac }

// Began is when it was switched on, on the clock of captures.
func (m *Machine) Began() time.Time { return m.began }

// ConsoleFile is the file that holds the serial console, byte for byte.
func (m *Machine) ConsoleFile() string { return m.log }

// Done is closed when the machine has ended and everything of it is gone.
func (m *Machine) Done() <-chan struct{} { return m.done }

// Wait waits until the machine has ended. It gives nil when QEMU's exit status was
// 0, which is a guest that powered off, and Quit; an error that wraps
// *exec.ExitError otherwise; or ctx's error.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.done:
	case <-ctx.Done():
		return fmt.Errorf("machine %s: waiting for its end: %w\n%s", m.name, ctx.Err(), m.consoleTail())
	}
	if m.err != nil {
		return fmt.Errorf("machine %s: qemu: %w: %s", m.name, m.err, m.stderr.String())
	}
	return nil
}

// Kill ends the machine as a power failure does, and waits until it is gone.
// Idempotent.
func (m *Machine) Kill() {
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.lab.log.Warn("machine cannot be killed", "machine", m.name, "err", err)
	}
	<-m.done
}

// Console is what the serial console has shown so far, without control characters;
// the last 8 MiB of it.
func (m *Machine) Console() string { return m.console.String() }

// ConsoleMark is a place on the console for WaitConsoleFrom: the end of what is
// there now.
func (m *Machine) ConsoleMark() int { return m.console.mark() }

// WaitConsole gives the first line of the console, from power-on on, that matches. An
// unfinished line counts once it has stood still for a quarter of a second, so
// that a prompt can be waited for. The error tells the console's last lines, and is
// ErrExited when the machine ended without showing a match.
func (m *Machine) WaitConsole(ctx context.Context, re *regexp.Regexp) (string, error) {
	return m.WaitConsoleFrom(ctx, 0, re)
}

// WaitConsoleFrom is WaitConsole for what came after the mark.
func (m *Machine) WaitConsoleFrom(ctx context.Context, mark int, re *regexp.Regexp) (string, error) {
	line, err := m.console.wait(ctx, re, mark)
	if err != nil {
		return "", fmt.Errorf("machine %s: waiting for %q on its console: %w\n%s", m.name, re, err, m.consoleTail())
	}
	return line, nil
}

// ConsoleTime gives when the first line that matches was whole, on the clock of
// captures, without waiting for one.
func (m *Machine) ConsoleTime(re *regexp.Regexp) (time.Time, bool) { return m.console.when(re) }

func (m *Machine) consoleTail() string {
	return "the console ends with:\n  " + strings.ReplaceAll(m.console.tail(25), "\n", "\n  ")
}

// SendConsole types on the serial console. It fails when the machine has ended, or
// takes no input for ten seconds.
func (m *Machine) SendConsole(s string) error {
	if err := m.serial.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return fmt.Errorf("machine %s: console: %w", m.name, err)
	}
	if _, err := m.serial.WriteString(s); err != nil {
		return fmt.Errorf("machine %s: console: %w", m.name, err)
	}
	return nil
}

// QMP runs any command of the QEMU Machine Protocol. args is marshalled to JSON,
// nil is none. A refusal is a *QMPError, ErrExited means that QEMU is gone.
func (m *Machine) QMP(ctx context.Context, command string, args any) (json.RawMessage, error) {
	v, err := m.qmp.execute(ctx, command, args)
	if err != nil {
		return nil, fmt.Errorf("machine %s: %w", m.name, err)
	}
	return v, nil
}

func (m *Machine) simple(ctx context.Context, command string) error {
	_, err := m.QMP(ctx, command, nil)
	return err
}

// Powerdown presses the power button; the guest decides.
func (m *Machine) Powerdown(ctx context.Context) error { return m.simple(ctx, "system_powerdown") }

// Reset presses the reset button: the machine boots anew under the same process.
func (m *Machine) Reset(ctx context.Context) error { return m.simple(ctx, "system_reset") }

// Stop freezes the machine's processors.
func (m *Machine) Stop(ctx context.Context) error { return m.simple(ctx, "stop") }

// Cont lets a stopped machine go on.
func (m *Machine) Cont(ctx context.Context) error { return m.simple(ctx, "cont") }

// SetLink pulls the network cable, or puts it back.
func (m *Machine) SetLink(ctx context.Context, up bool) error {
	_, err := m.QMP(ctx, "set_link", map[string]any{"name": cardID, "up": up})
	return err
}

// Quit ends QEMU in good order, without asking the guest, and waits for it. A
// machine that has ended already is no error.
func (m *Machine) Quit(ctx context.Context) error {
	if err := m.simple(ctx, "quit"); err != nil && !errors.Is(err, ErrExited) {
		return err
	}
	return m.Wait(ctx)
}

// tail is a writer that keeps the end of what it is given. The zero value is ready.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 8 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	t.b = t.b[max(0, len(t.b)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.b))
}
