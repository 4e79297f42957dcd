package nbd

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"

	"github.com/dlreconcile/dlreconcile/engine/provider/providertest"
)

// pki is an authority with a server's and a client's certificate, as files in the
// layout that libnbd and QEMU want, and as configurations.
type pki struct {
	dir            string
	server, client *tls.Config
}

func newPKI(t *testing.T) pki {
	t.Helper()
	p := pki{dir: t.TempDir()}
	write := func(name, kind string, der []byte) []byte {
		b := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
		if err := os.WriteFile(filepath.Join(p.dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return b
	}
	template := func(n int64, name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(n), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
	}
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	sign := func(c, by *x509.Certificate, k, with *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, c, by, &k.PublicKey, with)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	root, rootKey := template(1, "root"), key()
	root.IsCA, root.KeyUsage, root.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(write("ca-cert.pem", "CERTIFICATE", sign(root, root, rootKey, rootKey)))
	pair := func(n int64, name string) []tls.Certificate {
		c, k := template(n, name), key()
		c.DNSNames, c.IPAddresses = []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		private, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(write(name+"-cert.pem", "CERTIFICATE", sign(c, root, k, rootKey)), write(name+"-key.pem", "PRIVATE KEY", private))
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{cert}
	}
	p.server = &tls.Config{Certificates: pair(2, "server"), ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	p.client = &tls.Config{Certificates: pair(3, "client"), RootCAs: pool, ServerName: "localhost"}
	return p
}

// tlsShelf is a shelf whose "rw" is served over TLS only.
type tlsShelf struct{ *shelf }

func (h tlsShelf) Info(ctx context.Context, p Peer, name string) (Info, error) {
	i, err := h.shelf.Info(ctx, p, name)
	if err == nil && name == "rw" && p.TLS == nil {
		return Info{}, ErrTLSRequired
	}
	return i, err
}

func (h tlsShelf) Open(ctx context.Context, p Peer, name string) (Export, error) {
	if _, err := h.Info(ctx, p, name); err != nil {
		return Export{}, err
	}
	return h.shelf.Open(ctx, p, name)
}

// serveSecured starts a server on a listener of its own.
func serveSecured(t *testing.T, h Handler, sec Security, network, address string) net.Addr {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := New(h, Limits{}, nil)
	s.Secure(sec)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		s.Wait()
	})
	return ln.Addr()
}

func connect(t *testing.T, a net.Addr) *client {
	t.Helper()
	nc, err := net.Dial(a.Network(), a.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, nc: nc, in: bufio.NewReader(nc)}
}

func (c *client) last(id uint32, data []byte) uint32 {
	c.t.Helper()
	c.send(option(id, data))
	r := c.replies(id)
	return r[len(r)-1].Type
}

func (c *client) startTLS(cfg *tls.Config) error {
	c.t.Helper()
	if typ := c.last(optStartTLS, nil); typ != ack {
		c.t.Fatalf("STARTTLS: %#x", typ)
	}
	secured := tls.Client(c.nc, cfg)
	if err := secured.Handshake(); err != nil {
		return err
	}
	c.nc, c.in = secured, bufio.NewReader(secured)
	return nil
}

func TestStartTLS(t *testing.T) {
	p := newPKI(t)
	for _, forced := range []bool{false, true} {
		addr := serveSecured(t, tlsShelf{testShelf()}, Security{Config: p.server, Forced: forced}, "tcp4", "127.0.0.1:0")
		cl := connect(t, addr)
		cl.greet(3)
		clear := uint32(ack)
		if forced {
			clear = repErrTLSRequired
		}
		for _, o := range []struct {
			id   uint32
			data []byte
			want uint32
		}{
			{3, nil, clear}, {6, infoData("ro"), clear}, {6, infoData("rw"), repErrTLSRequired}, {7, infoData("rw"), repErrTLSRequired},
			{8, nil, clear}, {optStartTLS, []byte{0}, repErrInvalid},
		} {
			if got := cl.last(o.id, o.data); got != o.want {
				t.Errorf("forced %v: option %d in the clear: %#x, want %#x", forced, o.id, got, o.want)
			}
		}
		if err := cl.startTLS(p.client); err != nil {
			t.Fatal(err)
		}
		if got := cl.last(optStartTLS, nil); got != repErrInvalid {
			t.Errorf("STARTTLS twice: %#x", got)
		}
		if got := cl.last(optSetMeta, metaData("rw", baseAllocation)); got != repErrInvalid {
			t.Errorf("what was negotiated in the clear still counts: %#x", got)
		}
		if got := cl.last(7, infoData("rw")); got != ack {
			t.Fatalf("GO over TLS: %#x", got)
		}
		cl.send(request(1, 1, 1, 0, 4), []byte("abcd"))
		cl.wantReply(0, 1)
		cl.send(request(0, 0, 2, 0, 4), request(0, 2, 0, 0, 0))
		cl.wantReply(0, 2)
		if got := string(cl.recv(4)); got != "abcd" {
			t.Errorf("read %q", got)
		}
		cl.wantClosed() // with a close_notify: anything less is an error here
	}
}

// What must end the connection where TLS is at stake.
func TestStartTLSCloses(t *testing.T) {
	p := newPKI(t)
	addr := serveSecured(t, tlsShelf{testShelf()}, Security{Config: p.server, Forced: true}, "tcp4", "127.0.0.1:0")
	t.Run("EXPORT_NAME in the clear", func(t *testing.T) {
		cl := connect(t, addr)
		cl.greet(3)
		cl.send(option(1, []byte("ro")))
		cl.wantClosed()
	})
	t.Run("words slipped in before the handshake", func(t *testing.T) {
		c := &scripted{in: bytes.Join([][]byte{be(uint32(3)), option(optStartTLS, nil), option(7, infoData("ro"))}, nil)}
		h := testShelf()
		s := New(h, Limits{}, nil)
		s.Secure(Security{Config: p.server})
		s.serveConn(context.Background(), c, addrPort(c.RemoteAddr()), func() {})
		if out := bytes.Join(c.writes, nil); len(out) != greetingSize || len(h.peers) != 0 {
			t.Errorf("answered %x", out)
		}
	})
	t.Run("not TLS at all", func(t *testing.T) {
		cl := connect(t, addr)
		cl.greet(3)
		cl.last(optStartTLS, nil)
		cl.send(option(7, infoData("ro")))
		b := make([]byte, 4096)
		for { // an alert may come first
			if _, err := cl.in.Read(b); isTimeout(err) {
				t.Fatal("the server did not close")
			} else if err != nil {
				break
			}
		}
	})
	t.Run("no certificate where one is wanted", func(t *testing.T) {
		strict := p.server.Clone()
		strict.ClientAuth = tls.RequireAndVerifyClientCert
		addr := serveSecured(t, testShelf(), Security{Config: strict, Forced: true}, "tcp4", "127.0.0.1:0")
		cl := connect(t, addr)
		cl.greet(3)
		err := cl.startTLS(&tls.Config{RootCAs: p.client.RootCAs, ServerName: "localhost"})
		if err == nil { // TLS 1.3 says it with the first read
			cl.nc.Write(option(3, nil))
			_, err = cl.in.ReadByte()
		}
		if err == nil || isTimeout(err) {
			t.Errorf("went on: %v", err)
		}
		cl = connect(t, addr)
		cl.greet(3)
		if err := cl.startTLS(p.client); err != nil {
			t.Fatal(err)
		}
		if got := cl.last(7, infoData("ro")); got != ack {
			t.Errorf("with the certificate: %#x", got)
		}
	})
}

// A server without TLS never says that it wants it.
func TestNoTLSMode(t *testing.T) {
	addr := serveSecured(t, tlsShelf{testShelf()}, Security{}, "tcp4", "127.0.0.1:0")
	cl := connect(t, addr)
	cl.greet(3)
	if got := cl.last(7, infoData("rw")); got != repErrPolicy {
		t.Errorf("GO: %#x", got)
	}
	if got := cl.last(optStartTLS, nil); got != protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED {
		t.Errorf("STARTTLS: %#x", got)
	}
}

func foreign(t *testing.T, want bool, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if (err == nil) != want {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nbdcopy and qemu-img, with TLS and without, over TCP and a Unix socket.
func TestForeignTLS(t *testing.T) {
	for _, n := range []string{"nbdcopy", "nbdinfo", "qemu-img"} {
		providertest.Need(t, n)
	}
	p := newPKI(t)
	strict := p.server.Clone()
	strict.ClientAuth = tls.RequireAndVerifyClientCert
	h := testShelf()
	d := h.exports["rw"].Backend.(*disk)
	for i := range d.b {
		d.b[i] = byte(i / 511)
	}
	want := bytes.Clone(d.b)
	addr := serveSecured(t, h, Security{Config: strict, Forced: true}, "tcp4", "127.0.0.1:0")
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	same := func(what string) {
		t.Helper()
		if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: other bytes, %v", what, err)
		}
		os.Remove(out)
	}
	uri := "nbds://" + addr.String() + "/rw?tls-certificates=" + p.dir
	foreign(t, true, "nbdcopy", uri, out)
	same("nbdcopy")
	if s := foreign(t, true, "nbdinfo", uri); !strings.Contains(s, "with TLS, using structured packets") {
		t.Errorf("nbdinfo: %s", s)
	}
	foreign(t, false, "nbdcopy", "nbd://"+addr.String()+"/rw", out)
	host, port, _ := net.SplitHostPort(addr.String())
	foreign(t, true, "qemu-img", "convert", "--object", "tls-creds-x509,id=tls0,endpoint=client,dir="+p.dir, "--image-opts", "-O", "raw",
		"driver=nbd,server.type=inet,server.host="+host+",server.port="+port+",export=rw,tls-creds=tls0", out)
	same("qemu-img")

	sock := filepath.Join(dir, "nbd")
	serveSecured(t, h, Security{}, "unix", sock)
	foreign(t, true, "nbdcopy", "nbd+unix:///rw?socket="+sock, out)
	same("a Unix socket")
	copy(want[:100], bytes.Repeat([]byte{0xee}, 100))
	if err := os.WriteFile(out, want, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign(t, true, "nbdcopy", "--flush", out, "nbd+unix:///rw?socket="+sock)
	foreign(t, true, "nbdcopy", "nbd+unix:///rw?socket="+sock, out)
	same("and back")
}

// Who failed at TLS is told, once, and who did not is not.
func TestFailedTLSIsTold(t *testing.T) {
	p := newPKI(t)
	told := make(chan netip.AddrPort, 10)
	sec := Security{Config: p.server, Failed: func(a netip.AddrPort, err error) {
		if err == nil {
			t.Error("no reason")
		}
		told <- a
	}}
	at := serveSecured(t, testShelf(), sec, "tcp4", "127.0.0.1:0")
	good := connect(t, at)
	good.greet(3)
	if err := good.startTLS(p.client); err != nil {
		t.Fatal(err)
	}
	bad := connect(t, at)
	bad.greet(3)
	if err := bad.startTLS(&tls.Config{RootCAs: x509.NewCertPool(), ServerName: "localhost"}); err == nil {
		t.Fatal("it trusts nobody")
	}
	if got := <-told; got.String() != bad.nc.LocalAddr().String() {
		t.Errorf("told of %s", got)
	}
	if len(told) != 0 {
		t.Error("told again")
	}
}

// Over TLS nothing can be lent. What is in memory is answered without waiting for a turn
// at the disk all the same, once the first READ has had one.
func TestReadNowOverTLS(t *testing.T) {
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, bytes.Repeat([]byte("tls!"), 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	d, err := openSealed(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Release)
	h := newShelf()
	h.exports["x"] = Export{Info: Info{Name: "x", Size: 256 << 10, ReadOnly: true}, Backend: d}
	p := newPKI(t)
	cl := connect(t, serveSecured(t, h, Security{Config: p.server}, "tcp4", "127.0.0.1:0"))
	cl.greet(3)
	if err := cl.startTLS(p.client); err != nil {
		t.Fatal(err)
	}
	if got := cl.last(7, infoData("x")); got != ack {
		t.Fatalf("GO: %#x", got)
	}
	b := make([]byte, 4096)
	if d.ReadNow(b, 8192) {
		t.Fatal("nobody fetched anything yet: the test shows nothing")
	}
	cl.send(request(0, 0, 1, 4096, 4096))
	cl.wantReply(0, 1)
	cl.recv(4096)
	if !d.ReadNow(b, 8192) {
		t.Error("every READ has to wait for a turn at the disk")
	}
	cl.send(request(0, 0, 2, 8192, 4096), request(0, 2, 0, 0, 0))
	cl.wantReply(0, 2)
	if got := cl.recv(4096); !bytes.Equal(got, b) {
		t.Errorf("read %q", got[:8])
	}
}
