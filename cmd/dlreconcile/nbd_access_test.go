package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/cmd/internal/lab"
	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// nbdSite is a daemon with exports of every kind of access, and clients around it.
type nbdSite struct {
	*loopback
	dir string // of certificates, with the names that libnbd and QEMU want
	ca  *signer
}

// nbdExports are put in the place of the one export and the entry of loopbackSite.
const nbdExports = `
export "nbd" "open" {
  image = image.small
}

export "nbd" "listed" {
  image = image.small
  allow = [host.listed]
}

export "nbd" "secured" {
  image = image.small
  allow = [host.listed, host.reader]
  tls   = "required"
}

host "listed" {
  mac     = "52:54:00:00:00:15"
  address = "10.77.0.21"
}

host "reader" {
  mac     = "52:54:00:00:00:16"
  address = "10.77.0.22"
}
`

func newNBDSite(t *testing.T, name string) *nbdSite {
	t.Helper()
	providertest.NeedRoot(t)
	for _, program := range []string{"ip", "mke2fs", "nbdinfo", "nbdcopy", "qemu-img"} {
		providertest.Need(t, program)
	}
	l, err := lab.New(t.Context(), lab.Config{Name: name, Address: netip.MustParsePrefix(liveServer + "/16"), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	s := &nbdSite{loopback: newLoopback(t), dir: t.TempDir()}
	s.ports, s.lab = []int{67, 69, 80, 10809}, l
	if s.ca, err = newSigner(); err != nil {
		t.Fatal(err)
	}
	s.issue("server")
	s.issue("client")
	s.config = filepath.Join(s.dir, "daemon.hcl")
	return s
}

// issue writes the certificate of one end, and the authority's.
func (s *nbdSite) issue(end string) {
	s.t.Helper()
	err := errors.Join(
		s.ca.issue(s.dir, end, end),
		os.Rename(filepath.Join(s.dir, end+".crt"), filepath.Join(s.dir, end+"-cert.pem")),
		os.Rename(filepath.Join(s.dir, end+".key"), filepath.Join(s.dir, end+"-key.pem")),
		writePEM(filepath.Join(s.dir, "ca-cert.pem"), "CERTIFICATE", s.ca.cert.Raw),
	)
	if err != nil {
		s.t.Fatal(err)
	}
}

// settings writes daemon.hcl.
func (s *nbdSite) settings(lines ...string) {
	s.t.Helper()
	text := "nbd {\n" + strings.Join(lines, "\n") + "\n}\n"
	if err := os.WriteFile(s.config, []byte(strings.ReplaceAll(text, "DIR", s.dir)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *nbdSite) files(exports string) map[string]string {
	s.t.Helper()
	files, err := loopbackSite(s.ports, 1)
	if err != nil {
		s.t.Fatal(err)
	}
	files["site.hcl"] = strings.NewReplacer(
		`address = "127.0.0.1"`, `address = "`+liveServer+`"`+"\n  interface = \""+lab.Bridge+`"`,
		"127.0.0.0/8", "10.77.0.0/16", "127.0.0.100-127.0.0.199", "10.77.0.100-10.77.0.199",
	).Replace(files["site.hcl"]) + exports
	return files
}

// at is a client with an address that nobody gave it.
func (s *nbdSite) at(name string, last byte, address string) *lab.ClientNS {
	s.t.Helper()
	c, err := s.lab.Client(s.t.Context(), lab.ClientConfig{Name: name, MAC: macOf(last)})
	if err != nil {
		s.t.Fatal(err)
	}
	if out, err := c.Command(s.t.Context(), "ip", "addr", "add", address+"/16", "dev", lab.ClientInterface).CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	return c
}

// served waits until a revision is what the daemon serves, whatever came before.
func (s *nbdSite) served(rev string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), applyLimit)
	defer cancel()
	for seq := uint64(0); ; {
		switch st, err := s.client.Status(ctx, seq); {
		case err == nil && st.Synced == rev:
			return
		case err == nil:
			seq = st.Seq
		case ctx.Err() != nil:
			s.t.Fatalf("waited in vain for %s", rev)
		default:
			<-time.After(10 * time.Millisecond) // nobody listens yet
		}
	}
}

// refused waits until a revision is refused, and gives why.
func (s *nbdSite) refused(rev string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), applyLimit)
	defer cancel()
	for seq := uint64(0); ; {
		st, err := s.client.Status(ctx, seq)
		if err != nil {
			s.t.Fatal(err)
		}
		if f := st.Failure; f != nil && f.Revision == rev {
			return fmt.Sprintf("%s %+v", f.Reason, f.Diagnostics)
		}
		if st.Synced == rev {
			return "nothing: it is served"
		}
		seq = st.Seq
	}
}

// nbdRun runs a foreign program, and gives what it says on both of its outputs.
func nbdRun(t testing.TB, cmd *exec.Cmd) (string, error) {
	t.Helper()
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (s *nbdSite) info(c *lab.ClientNS, uri string) (string, error) {
	s.t.Helper()
	return nbdRun(s.t, c.Command(s.t.Context(), "nbdinfo", "--no-content", uri))
}

const (
	clearURI   = "nbd://" + liveServer + "/"
	nobodyHere = "No such file or directory for export"
)

// Who has no address of ours gets nothing, whatever exists; who has one gets what lists
// him; and what it is that keeps somebody out only the log says.
func TestNBDAccess(t *testing.T) {
	s := newNBDSite(t, "nbdaccess")
	s.settings(`tls_cert = "DIR/server-cert.pem"`, `tls_key = "DIR/server-key.pem"`, `client_ca = "DIR/ca-cert.pem"`)
	rev := s.commit(s.files(nbdExports))
	s.serve()
	s.synced(rev)

	listed, reader := s.at("listed", 0x15, "10.77.0.21"), s.at("reader", 0x16, "10.77.0.22")
	neighbour := s.at("neighbour", 0x77, "10.77.0.150") // of the pool, and no lease
	tls := "nbds://" + liveServer + "/secured?tls-certificates=" + s.dir
	for _, c := range []struct {
		what  string
		who   *lab.ClientNS
		uri   string
		fails string // what it is told; "": it gets it
	}{
		{"everybody known", listed, clearURI + "open", ""},
		{"a host that is listed", listed, clearURI + "listed", ""},
		{"a host that is not", reader, clearURI + "listed", nobodyHere},
		{"what does not exist", reader, clearURI + "nothing", nobodyHere},
		{"a neighbour without a lease", neighbour, clearURI + "open", nobodyHere},
		{"and what he asks for that does not exist", neighbour, clearURI + "nothing", nobodyHere},
		{"TLS in the clear", listed, clearURI + "secured", "Operation not supported for export"},
		{"TLS in the clear, by who may not know of it", neighbour, clearURI + "secured", nobodyHere},
		{"TLS", listed, tls, ""},
		{"TLS, for another host", reader, tls, ""},
		{"TLS does not make an address known", neighbour, tls, nobodyHere},
		{"TLS where it is only offered", listed, strings.Replace(tls, "secured", "listed", 1), ""},
	} {
		out, err := s.info(c.who, c.uri)
		if (err == nil) != (c.fails == "") || !strings.Contains(out, c.fails) {
			t.Errorf("%s: %v, want %q in %s", c.what, err, c.fails, out)
		}
	}
	if out, err := nbdRun(t, neighbour.Command(t.Context(), "nbdinfo", "--list", clearURI)); err == nil && strings.Contains(out, "export=") {
		t.Errorf("a neighbour is told what there is: %s", out)
	}
	t.Run("whole images over TLS", func(t *testing.T) { s.readSecured(t, listed, tls) })
	t.Run("no certificate of a client", func(t *testing.T) {
		bare := t.TempDir()
		if err := copyFile(filepath.Join(s.dir, "ca-cert.pem"), filepath.Join(bare, "ca-cert.pem")); err != nil {
			t.Fatal(err)
		}
		if out, err := s.info(listed, "nbds://"+liveServer+"/secured?tls-certificates="+bare); err == nil {
			t.Errorf("is let in: %s", out)
		}
	})
	t.Run("Unix socket", s.readLocally)
	t.Run("probe", func(t *testing.T) { s.probe(t, listed, neighbour) })
	t.Run("renewed", func(t *testing.T) { s.renewed(t, listed, tls) })
	t.Run("withdrawn", func(t *testing.T) { s.withdrawn(t, listed) })

	log, err := os.ReadFile(s.logged)
	if err != nil {
		t.Fatal(err)
	}
	for _, why := range []string{
		"no machine is known at 10.77.0.150", "there is no such export", "export.nbd.listed does not list this machine", "export.nbd.secured is served over TLS only",
		"export.nbd.listed is for those that it lists under allow", "and not at the Unix socket",
	} {
		if !strings.Contains(string(log), why) {
			t.Errorf("the log does not say %q", why)
		}
	}
}

// readSecured copies an image with two foreign clients.
func (s *nbdSite) readSecured(t *testing.T, c *lab.ClientNS, uri string) {
	a := filepath.Join(t.TempDir(), "a")
	b := filepath.Join(t.TempDir(), "b")
	if out, err := nbdRun(t, c.Command(t.Context(), "nbdcopy", uri, a)); err != nil {
		t.Fatalf("nbdcopy: %v: %s", err, out)
	}
	sealed, err := filepath.Glob(filepath.Join(s.state, "blobs", "sha256", "*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	digest, err := fileDigest(a)
	if err != nil {
		t.Fatal(err)
	}
	if hex := strings.TrimPrefix(digest, "sha256:"); !strings.Contains(strings.Join(sealed, " "), hex) {
		t.Errorf("nbdcopy has bytes with the digest %s, and the daemon %v", digest, sealed)
	}
	out, err := nbdRun(t, c.Command(t.Context(), "qemu-img", "convert", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+s.dir, "--image-opts", "-O", "raw",
		"driver=nbd,server.type=inet,server.host="+liveServer+",server.port=10809,export=secured,tls-creds=tls0", b))
	if err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	sameDigest(t, b, digest)
}

// readLocally: who may open the Unix socket reads what everybody may have, as it was built,
// and writes nothing. What is for some, or for TLS, is not there.
func (s *nbdSite) readLocally(t *testing.T) {
	path := filepath.Join(s.state, "nbd.sock")
	if st, err := os.Stat(path); err != nil || st.Mode() != os.ModeSocket|0o660 {
		t.Fatalf("%v, %v", st, err)
	}
	uri := func(name string) string { return "nbd+unix:///" + name + "?socket=" + path }
	run := func(name string, args ...string) string {
		t.Helper()
		out, err := nbdRun(t, exec.CommandContext(t.Context(), name, args...))
		if err != nil {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		return out
	}
	list := run("nbdinfo", "--list", "--no-content", uri(""))
	for name, want := range map[string]bool{"listed": false, "open": true, "secured": false, "small": true} {
		if strings.Contains(list, `export="`+name+"@") != want {
			t.Errorf("%s is listed: %t: %s", name, !want, list)
		}
	}
	if out := run("nbdinfo", "--no-content", uri("small")); !strings.Contains(out, "is_read_only: true") {
		t.Errorf("an overlay is made for nobody: %s", out)
	}
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	run("nbdcopy", uri("open"), a)
	run("nbdcopy", uri("small"), b)
	digest, err := fileDigest(a)
	if err != nil {
		t.Fatal(err)
	}
	sameDigest(t, b, digest)
	for _, name := range []string{"nothing", "small+boot-1", "listed", "secured"} {
		if out, err := nbdRun(t, exec.CommandContext(t.Context(), "nbdinfo", uri(name))); err == nil || !strings.Contains(out, nobodyHere) {
			t.Errorf("%s: %v: %s", name, err, out)
		}
	}
}

// probe looks at the exports with our own client.
func (s *nbdSite) probe(t *testing.T, c, stranger *lab.ClientNS) {
	run := func(at *lab.ClientNS, args ...string) (out, errs string, code int) {
		t.Helper()
		args = append([]string{"probe", "nbd"}, args...)
		cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
		if at != nil {
			cmd = at.Command(t.Context(), os.Args[0], args...)
		}
		cmd.Env = append(os.Environ(), asCommand+"=1")
		return runCommand(t, cmd)
	}
	socket := filepath.Join(s.state, "nbd.sock")
	var got nbdReport
	report := func(what string, at *lab.ClientNS, args ...string) {
		t.Helper()
		got = nbdReport{}
		out, errs, code := run(at, append(args, "--json")...)
		if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK {
			t.Fatalf("%s: exit %d, %v: %s%s", what, code, err, out, errs)
		}
	}
	report("over TCP", c, liveServer, "listed", "--connections", "3")
	if got.Verified != "yes" || got.Bytes != 16<<20 || got.Connections != 3 || got.TLS != "" || got.Replies != "structured" || !strings.HasPrefix(got.Export, "listed@") || got.MiBPerSec <= 0 || got.Latency.Max <= 0 {
		t.Errorf("over TCP: %+v", got)
	}
	digest := got.Digest
	report("over TLS", c, liveServer, "secured", "--tls-ca", s.dir+"/ca-cert.pem", "--tls-cert", s.dir+"/client-cert.pem", "--tls-key", s.dir+"/client-key.pem")
	if got.Verified != "yes" || got.TLS != "TLS 1.3" || got.Digest != digest {
		t.Errorf("over TLS: %+v", got)
	}
	report("through the socket", nil, socket, "small", "--digest", digest)
	if got.Verified != "yes" || got.Expected != digest || !got.ReadOnly {
		t.Errorf("through the socket: %+v", got)
	}
	report("a part", nil, socket, "small", "--bytes", "1MiB", "--no-verify")
	if got.Verified != "no" || got.Bytes != 1<<20 || got.Digest != "" {
		t.Errorf("a part: %+v", got)
	}
	out, _, code := run(nil, socket, "small")
	if code != exitOK || !strings.Contains(out, digest+", as expected") || !strings.Contains(out, "MiB/s") {
		t.Errorf("exit %d: %s", code, out)
	}
	for _, w := range []struct {
		what  string
		at    *lab.ClientNS
		code  int
		says  string
		where []string
	}{
		{"other bytes", nil, exitError, "was expected", []string{socket, "small", "--digest", "sha256:00000000"}},
		{"a stranger", stranger, exitError, "no such export", []string{liveServer, "listed"}},
		{"TLS in the clear", c, exitError, "use --tls", []string{liveServer, "secured"}},
		{"a server that nobody vouches for", c, exitError, "certificate signed by unknown authority", []string{liveServer, "secured", "--tls"}},
		{"nobody there", c, exitError, "connection refused", []string{liveServer + ":1", "listed"}},
		{"one argument", nil, exitUsage, "name of an export", []string{socket}},
		{"half a certificate", nil, exitUsage, "go together", []string{socket, "small", "--tls-cert", "x"}},
		{"too much", nil, exitUsage, "more than 1 GiB", []string{socket, "small", "--depth", "1024", "--request", "32MiB"}},
		{"no size", nil, exitUsage, "want a size", []string{socket, "small", "--bytes", "some"}},
	} {
		if out, errs, code := run(w.at, w.where...); code != w.code || !strings.Contains(out+errs, w.says) {
			t.Errorf("%s: exit %d, want %d and %q: %s%s", w.what, code, w.code, w.says, out, errs)
		}
	}
}

// renewed has another authority sign everything: it counts from the next connection on.
func (s *nbdSite) renewed(t *testing.T, c *lab.ClientNS, uri string) {
	old := t.TempDir()
	for _, f := range []string{"ca-cert.pem", "client-cert.pem", "client-key.pem"} {
		if err := copyFile(filepath.Join(s.dir, f), filepath.Join(old, f)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if s.ca, err = newSigner(); err != nil {
		t.Fatal(err)
	}
	s.issue("server")
	s.issue("client")
	if out, err := s.info(c, uri); err != nil {
		t.Errorf("with the new one: %v: %s", err, out)
	}
	if out, err := s.info(c, strings.Replace(uri, s.dir, old, 1)); err == nil {
		t.Errorf("with the old one: %s", out)
	}
}

// withdrawn: who is attached when his access goes stays so, and cannot come back.
func (s *nbdSite) withdrawn(t *testing.T, c *lab.ClientNS) {
	w := walker{export: "listed"}
	if err := c.Do(func() (err error) {
		if w.conn, err = net.Dial("tcp", liveServer+":10809"); err == nil {
			_, err = w.negotiate()
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer w.conn.Close()
	s.synced(s.commit(s.files(strings.Replace(nbdExports, "allow = [host.listed]", "allow = [host.reader]", 1))))
	if _, err := w.read(0, 4096); err != nil {
		t.Errorf("the connection of before: %v", err)
	}
	if out, err := s.info(c, clearURI+"listed"); err == nil || !strings.Contains(out, nobodyHere) {
		t.Errorf("the next connection: %v: %s", err, out)
	}
}

// A commit that requires TLS is refused by a daemon without a certificate, with the line;
// what is served goes on. With one it is taken, though the daemon refused it before.
func TestTLSNeedsACertificate(t *testing.T) {
	s := newNBDSite(t, "nbdtls")
	s.settings()
	first := s.commit(s.files(strings.Replace(nbdExports, `tls   = "required"`, "", 1)))
	_, stop := s.serve()
	s.synced(first)
	second := s.commit(s.files(nbdExports))
	failure := s.refused(second)
	want := fmt.Sprintf("%d,3", 1+strings.Count(strings.SplitAfter(s.files(nbdExports)["site.hcl"], `tls   =`)[0], "\n"))
	if !strings.Contains(failure, "The daemon has no certificate") || !strings.Contains(failure, want) || !strings.Contains(failure, "tls_cert") {
		t.Errorf("refused with %s; want the place %s", failure, want)
	}
	stop()
	s.settings(`tls_cert = "DIR/server-cert.pem"`, `tls_key = "DIR/server-key.pem"`)
	_, stop = s.serve()
	s.served(second)
	c := s.at("listed", 0x15, "10.77.0.21")
	if out, err := s.info(c, "nbds://"+liveServer+"/secured?tls-certificates="+s.dir); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	stop()
	// Its certificate gone, a daemon serves the rest of what it served.
	s.settings()
	s.serve()
	s.synced(second)
	if out, err := s.info(c, clearURI+"listed"); err != nil {
		t.Errorf("without a certificate: %v: %s", err, out)
	}
	if out, err := s.info(c, clearURI+"secured"); err == nil {
		t.Errorf("an export that requires TLS, in the clear: %s", out)
	}
}
