// Command nbdroot is the client half of dlreconcile: a small static program for
// the initramfs that attaches the NBD root, makes it that of the machine, and stays
// to attach it again whenever the server was away.
//
// The stock nbd-client leaves nobody behind who could do that: a server restart
// ends in I/O errors on the root. This one asks the kernel (generic netlink
// family "nbd") to hold requests while no connection is there, and brings a new
// connection for every one that died.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
)

const usage = `usage:
  nbdroot attach --server IP[:PORT] --export NAME --device nbd0 [--instance ID]
      [--deadline 5m] [--pidfile FILE]
      attach the export and keep it attached; returns once the device has its size
  nbdroot phone [--strict] URL STAGE
      POST to URL/phone/STAGE; a failure is told and forgiven unless --strict
  nbdroot links [--mac MAC] [--wait 10s]
      bring network links up and wait for a carrier
  nbdroot settle --root DIR --mac MAC [--hostname NAME] [--settings FILE]
      make the root mounted at DIR that of the machine with this boot interface;
      exit code 1: something of its settings is not in force, 2: the root takes no
      writes at all
`

func main() {
	err := run(os.Args[1:], os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "nbdroot:", err)
	if errors.As(err, new(unwritable)) {
		os.Exit(2)
	}
	os.Exit(1)
}

func run(args []string, stderr io.Writer) error {
	verb := ""
	if len(args) > 0 {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "attach", residentVerb:
		t, err := parseTarget(args, stderr)
		if err != nil {
			return err
		}
		if verb == residentVerb {
			return runResident(t)
		}
		return startResident(t)
	case "phone":
		fs := flags("phone", stderr)
		strict := fs.Bool("strict", false, "")
		if err := fs.Parse(args); err != nil {
			return err
		}
		if fs.NArg() != 2 {
			return errors.New("phone: want URL and STAGE")
		}
		err := phone(fs.Arg(0), fs.Arg(1), defaultCaller())
		if err != nil && !*strict {
			fmt.Fprintln(stderr, "nbdroot:", err)
			return nil
		}
		return err
	case "links":
		fs := flags("links", stderr)
		mac := fs.String("mac", "", "")
		wait := fs.Duration("wait", 10*time.Second, "")
		if err := fs.Parse(args); err != nil {
			return err
		}
		return raiseLinks(*mac, *wait)
	case "settle":
		return settleVerb(args, stderr)
	default:
		return fmt.Errorf("unknown verb %q\n%s", verb, usage)
	}
}

func flags(verb string, stderr io.Writer) *flag.FlagSet {
	fs := flag.NewFlagSet(verb, flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.Usage = func() { io.WriteString(stderr, usage) }
	return fs
}

// target is what to attach where.
type target struct {
	server   netip.AddrPort
	export   string        // the name sent to the server, instance included
	index    uint32        // 0 is /dev/nbd0
	deadline time.Duration // for the first attachment; later ones are tried forever
	pidfile  string        // gets the number of the process that stays; "" for none
}

// device gives the name below /dev and /sys/block.
func (t target) device() string { return "nbd" + strconv.FormatUint(uint64(t.index), 10) }

// nbdPort is registered with IANA for NBD.
const nbdPort = 10809

// maxName is the longest export name that the protocol wants servers to take.
const maxName = 4096

// parseTarget reads the words of attach. Without --instance the kernel's boot id
// is the instance, so that the server can tell this boot's next connection from
// another boot of the same machine; "--instance -" sends the bare name, which is
// what servers other than dlreconcile know.
func parseTarget(args []string, stderr io.Writer) (target, error) {
	fs := flags("attach", stderr)
	server := fs.String("server", "", "")
	export := fs.String("export", "", "")
	device := fs.String("device", "nbd0", "")
	instance := fs.String("instance", "", "")
	deadline := fs.Duration("deadline", 5*time.Minute, "")
	pidfile := fs.String("pidfile", "", "")
	if err := fs.Parse(args); err != nil {
		return target{}, err
	}
	if fs.NArg() != 0 || *server == "" || *export == "" {
		return target{}, errors.New("attach: want --server and --export")
	}
	t := target{export: *export, deadline: *deadline, pidfile: *pidfile}
	var err error
	if t.server, err = parseServer(*server); err != nil {
		return target{}, err
	}
	digits, ok := strings.CutPrefix(strings.TrimPrefix(*device, "/dev/"), "nbd")
	n, err := strconv.ParseUint(digits, 10, 16)
	if !ok || err != nil {
		return target{}, fmt.Errorf("attach: device %q: want nbd0, nbd1, …", *device)
	}
	t.index = uint32(n)
	switch *instance {
	case "-":
	case "":
		id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
		if err != nil {
			return target{}, fmt.Errorf("attach: boot id: %w", err)
		}
		t.export += "+" + strings.TrimSpace(string(id))
	default:
		t.export += "+" + *instance
	}
	if len(t.export) > maxName {
		return target{}, fmt.Errorf("attach: the export name has %d bytes, at most %d fit", len(t.export), maxName)
	}
	return t, nil
}

// parseServer reads IP, IP:PORT, or [IPv6]:PORT. Names are not taken: nothing may
// need a resolver when the root is away.
func parseServer(s string) (netip.AddrPort, error) {
	if ip, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return netip.AddrPortFrom(ip, nbdPort), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("attach: server %q: want IP or IP:PORT", s)
	}
	return ap, nil
}

// dialTo gives what opens one connection to the server. Keepalive finds a server host that went away
// while nothing was asked of it.
func dialTo(t target) func() (net.Conn, error) {
	d := net.Dialer{
		Timeout:         3 * time.Second,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4},
	}
	addr := t.server.String()
	return func() (net.Conn, error) { return d.Dial("tcp", addr) }
}
