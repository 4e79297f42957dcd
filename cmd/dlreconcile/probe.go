package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dlreconcile/dlreconcile/cmd/internal/nbdprobe"
	"github.com/dlreconcile/dlreconcile/engine/keyfile"
)

func (c *cli) probeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe",
		Short: "Try a server as its clients do",
	}
	cmd.AddCommand(c.probeNBDCommand())
	return cmd
}

// nbdFlags are how an export is read.
type nbdFlags struct {
	bytes, request            string
	depth, connections        int
	timeout, within           time.Duration
	digest                    string
	unverified, secure        bool
	ca, cert, key, serverName string
}

func (c *cli) probeNBDCommand() *cobra.Command {
	var f nbdFlags
	cmd := &cobra.Command{
		Use:         "nbd ADDRESS EXPORT",
		Annotations: map[string]string{bare: ""},
		Short:       "Read an NBD export: how fast it is, and whether its bytes are right",
		Long: `probe nbd reads an export of an NBD server, this one or any other, and says how many
MiB/s that gave and how long requests took. It writes nothing.

ADDRESS is HOST, HOST:PORT (10809 when it is left out), or the path of a Unix socket.

The bytes of a whole image are held against the digest given with --digest, or else
against the 12 digits of it in the export's name (arch@3f2a9c1d7e08), as the server
says it. A copy-on-write export differs by what this machine wrote to it.

A machine gets from a dlreconcile server what it would get as a client: its address
must be known there. On the server itself the Unix socket has, as it was built, what
every known machine may have: no export with allow or tls = "required", and no image that
was promoted from a disk.

A server that gives no whole answer for the time of --timeout is given up, however much
comes of one; --within bounds everything together. The error says how far it came.

Exit codes: 0 read, and the digest is right if one is known; 1 failed, was too slow for
--timeout or --within, or it differs; 64 used wrongly.`,
		Example: "  dlreconcile probe nbd 10.0.0.1 arch\n" +
			"  dlreconcile probe nbd 10.0.0.1 arch --connections 4 --bytes 1GiB --json\n" +
			"  dlreconcile probe nbd /var/lib/dlreconcile/nbd.sock arch\n" +
			"  dlreconcile probe nbd 10.0.0.1 archive --tls-ca ca.crt --tls-cert me.crt --tls-key me.key",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return fmt.Errorf("probe nbd wants the server's address and the name of an export")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			conf, err := f.config(args[0], args[1])
			if err != nil {
				return &coded{exitUsage, err}
			}
			if err := f.secured(&conf, args[0]); err != nil {
				return err
			}
			got, err := nbdprobe.Probe(cmd.Context(), conf)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			report := newNBDReport(args[0], args[1], got, f)
			if c.json {
				err = c.printJSON(report)
			} else {
				report.print(c.out, got, conf)
			}
			if err == nil && report.Verified == "differs" {
				err = &silent{exitError}
			}
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.bytes, "bytes", "", "read at most `SIZE` from the beginning, such as 512MiB (default: all)")
	fl.StringVar(&f.request, "request", "256KiB", "`SIZE` of a request")
	fl.IntVar(&f.depth, "depth", 16, "requests that are on their way at once, of each connection")
	fl.IntVar(&f.connections, "connections", 1, "connections at once, where the server allows several")
	fl.DurationVar(&f.timeout, "timeout", 30*time.Second, "how long connecting may take, and then to wait for a whole answer")
	fl.DurationVar(&f.within, "within", 0, "how long all of it may take (default: as long as it takes)")
	fl.StringVar(&f.digest, "digest", "", "what the bytes must have: sha256:`HEX`, or its beginning")
	fl.BoolVar(&f.unverified, "no-verify", false, "only measure: work out no digest")
	fl.BoolVar(&f.secure, "tls", false, "use TLS; the flags below imply it")
	fl.StringVar(&f.ca, "tls-ca", "", "`FILE` of who signs the server's certificate (default: the system's authorities)")
	fl.StringVar(&f.cert, "tls-cert", "", "`FILE` of this client's certificate")
	fl.StringVar(&f.key, "tls-key", "", "`FILE` of its key")
	fl.StringVar(&f.serverName, "tls-server-name", "", "`NAME` in the server's certificate (default: the host)")
	return cmd
}

const nbdPort = "10809"

var digestText = regexp.MustCompile(`^(?:sha256:)?([0-9a-f]{8,64})$`)

// config reads what says how to read.
func (f *nbdFlags) config(address, export string) (nbdprobe.Config, error) {
	c := nbdprobe.Config{Network: "tcp", Address: address, Export: export, Depth: f.depth, Connections: f.connections, Timeout: f.timeout, Within: f.within, Hash: !f.unverified}
	path, unix := strings.CutPrefix(address, "unix:")
	switch {
	case unix || strings.Contains(address, "/"):
		c.Network, c.Address = "unix", path
	default:
		if _, _, err := net.SplitHostPort(address); err != nil {
			c.Address = net.JoinHostPort(strings.Trim(address, "[]"), nbdPort)
		}
	}
	const size = `a size such as 64KiB or 1GiB`
	request, ok := bytesOf(f.request)
	if !ok || request < nbdprobe.MinRequest || request > nbdprobe.MaxRequest {
		return c, fmt.Errorf("--request %q: want %s, of 512 bytes to %d MiB", f.request, size, nbdprobe.MaxRequest>>20)
	}
	c.Request = int(request)
	if f.bytes != "" {
		if c.Bytes, ok = bytesOf(f.bytes); !ok {
			return c, fmt.Errorf("--bytes %q: want %s", f.bytes, size)
		}
	}
	switch {
	case f.digest != "" && f.unverified:
		return c, errors.New("--digest says what to verify, and --no-verify not to")
	case f.digest != "" && c.Bytes > 0:
		return c, errors.New("--digest is of the whole image, and --bytes reads a part of it")
	case f.digest != "" && !digestText.MatchString(f.digest):
		return c, fmt.Errorf("--digest %q: want sha256: and 64 hex digits, or the first 8 of them or more", f.digest)
	case (f.cert == "") != (f.key == ""):
		return c, errors.New("--tls-cert and --tls-key go together")
	case f.depth < 1 || f.depth > nbdprobe.MaxDepth:
		return c, fmt.Errorf("--depth %d: want 1 to %d", f.depth, nbdprobe.MaxDepth)
	case f.connections < 1 || f.connections > nbdprobe.MaxConnections:
		return c, fmt.Errorf("--connections %d: want 1 to %d", f.connections, nbdprobe.MaxConnections)
	case f.timeout <= 0:
		return c, errors.New("--timeout must be longer than nothing")
	case f.within < 0:
		return c, errors.New("--within must be longer than nothing")
	}
	if err := c.Check(); err != nil {
		return c, fmt.Errorf("--request, --depth and --connections do not go together: %w", err)
	}
	return c, nil
}

// secured reads the certificates, where there is to be TLS.
func (f *nbdFlags) secured(c *nbdprobe.Config, address string) error {
	if !f.secure && f.ca == "" && f.cert == "" && f.serverName == "" {
		return nil
	}
	c.TLS = &tls.Config{ServerName: f.serverName, MinVersion: tls.VersionTLS12}
	if c.TLS.ServerName == "" {
		c.TLS.ServerName = "localhost"
		if host, _, err := net.SplitHostPort(c.Address); err == nil && c.Network == "tcp" {
			c.TLS.ServerName = host
		}
	}
	if f.ca != "" {
		pool, err := keyfile.Authorities(f.ca).Get()
		if err != nil {
			return fmt.Errorf("--tls-ca: %w", err)
		}
		c.TLS.RootCAs = pool
	}
	if f.cert != "" {
		pair, err := keyfile.Pair(f.cert, f.key).Get()
		if err != nil {
			return fmt.Errorf("--tls-cert: %w", err)
		}
		c.TLS.Certificates = []tls.Certificate{*pair}
	}
	return nil
}

// nbdReport is what is printed as JSON.
type nbdReport struct {
	Address     string   `json:"address"`
	Export      string   `json:"export"`
	Description string   `json:"description,omitempty"`
	Size        int64    `json:"size"`
	ReadOnly    bool     `json:"read_only"`
	MultiConn   bool     `json:"multi_conn"`
	Replies     string   `json:"replies"`       // "structured" or "simple"
	TLS         string   `json:"tls,omitempty"` // its version
	Connections int      `json:"connections"`
	Requests    uint64   `json:"requests"`
	Bytes       int64    `json:"bytes"`
	Seconds     float64  `json:"seconds"`
	MiBPerSec   float64  `json:"mib_per_second"`
	Latency     nbdTimes `json:"latency_ms"`
	Digest      string   `json:"digest,omitempty"`   // of what was read
	Expected    string   `json:"expected,omitempty"` // its beginning at least
	Verified    string   `json:"verified"`           // "yes", "no" or "differs"
}

type nbdTimes struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

// namedDigest finds the digest in the name of an export of ours.
var namedDigest = regexp.MustCompile(`@([0-9a-f]{12})(?:[+/].*)?$`)

// newNBDReport makes the report of a probe that asked for an export. What it is held
// against is what was asked for; what the server calls it counts where that says
// nothing.
func newNBDReport(address, asked string, r *nbdprobe.Result, f nbdFlags) nbdReport {
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	out := nbdReport{
		Address: address, Export: r.Name, Description: r.Description, Size: r.Size, ReadOnly: r.ReadOnly, MultiConn: r.MultiConn,
		Replies: "simple", TLS: r.TLS, Connections: r.Connections, Requests: r.Latency.Count(), Bytes: r.Bytes, Seconds: r.Took.Seconds(),
		Latency: nbdTimes{ms(r.Latency.Quantile(0.5)), ms(r.Latency.Quantile(0.99)), ms(r.Latency.Max())}, Digest: r.Digest, Verified: "no",
	}
	if r.Structured {
		out.Replies = "structured"
	}
	if s := r.Took.Seconds(); s > 0 {
		out.MiBPerSec = float64(r.Bytes) / (1 << 20) / s
	}
	if r.Digest == "" || r.Bytes != r.Size {
		return out
	}
	if m := digestText.FindStringSubmatch(f.digest); m != nil {
		out.Expected = "sha256:" + m[1]
	} else if m := namedDigest.FindStringSubmatch(asked); m != nil {
		out.Expected = "sha256:" + m[1]
	} else if m := namedDigest.FindStringSubmatch(r.Name); m != nil {
		out.Expected = "sha256:" + m[1]
	}
	switch {
	case out.Expected == "":
	case strings.HasPrefix(r.Digest, out.Expected):
		out.Verified = "yes"
	default:
		out.Verified = "differs"
	}
	return out
}

func (r nbdReport) print(w io.Writer, got *nbdprobe.Result, c nbdprobe.Config) {
	mib := func(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }
	what := []string{mib(r.Size), "read-write", "one connection", r.Replies + " replies", "in the clear"}
	if r.ReadOnly {
		what[1] = "read-only"
	}
	if r.MultiConn {
		what[2] = "several connections"
	}
	if r.TLS != "" {
		what[4] = r.TLS
	}
	fmt.Fprintf(w, "%s at %s: %s\n", clean(r.Export), clean(r.Address), strings.Join(what, ", "))
	if r.Description != "" {
		fmt.Fprintf(w, "  %s\n", clean(r.Description))
	}
	fmt.Fprintf(w, "read     %s in %.2f s: %.1f MiB/s (%d requests of %d KiB, %d connections, %d at once on each)\n",
		mib(r.Bytes), r.Seconds, r.MiBPerSec, r.Requests, c.Request>>10, r.Connections, c.Depth)
	fmt.Fprintf(w, "latency  p50 %.2f ms, p99 %.2f ms, longest %.2f ms\n", r.Latency.P50, r.Latency.P99, r.Latency.Max)
	switch r.Verified {
	case "yes":
		fmt.Fprintf(w, "digest   %s, as expected\n", r.Digest)
	case "differs":
		fmt.Fprintf(w, "digest   %s, and %s was expected\n", r.Digest, r.Expected)
		if !got.ReadOnly {
			fmt.Fprintln(w, "         The export can be written to: what this machine wrote is in it.")
		}
	default:
		if r.Digest != "" {
			fmt.Fprintf(w, "digest   %s of what was read; there is nothing to hold it against\n", r.Digest)
		}
	}
}
