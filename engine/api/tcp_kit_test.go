package api

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/keyfile"
)

// authority signs certificates, in files of a folder.
type authority struct {
	t    testing.TB
	dir  string
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	file string // its own certificate
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.key = newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.file = a.write("ca.crt", "CERTIFICATE", der, 0o644)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (a *authority) write(name, kind string, der []byte, mode os.FileMode) string {
	a.t.Helper()
	return writeFile(a.t, filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode)
}

// writeFile replaces a file as programs that rotate keys do: by renaming.
func writeFile(t testing.TB, path string, b []byte, mode os.FileMode) string {
	t.Helper()
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path+".new", mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// issue makes a certificate for a server on loopback and for a client, in files.
func (a *authority) issue(name string, until time.Time, uris ...string) (cert, key string) {
	a.t.Helper()
	k := newKey(a.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, u := range uris {
		parsed, err := url.Parse(u)
		if err != nil {
			a.t.Fatal(err)
		}
		tmpl.URIs = append(tmpl.URIs, parsed)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, &k.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	name += "-" + tmpl.SerialNumber.String()
	return a.write(name+".crt", "CERTIFICATE", der, 0o644), a.write(name+".key", "PRIVATE KEY", b, 0o600)
}

// pool is the authority for a client.
func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.cert)
	return p
}

// tokenOf is long enough, and has the name in it.
func tokenOf(name string) string { return name + "-0123456789abcdef0123456789abcdef" }

// withToken makes a principal with a token in a file.
func withToken(t testing.TB, name string, role Role) Principal {
	t.Helper()
	path := writeFile(t, filepath.Join(t.TempDir(), name), []byte(tokenOf(name)+"\n"), 0o600)
	return Principal{Name: name, Role: role, Token: keyfile.Secret(path, 20)}
}

// logged is what a server says.
type logged struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// network is the API of a daemon on TCP.
type network struct {
	*daemon
	addr string
	url  string
	ca   *authority
	cert string // the server's, in a file
	key  string
	log  *logged
}

// onNetwork serves d's API over TCP too. A nil clients means no client certificates.
func (d *daemon) onNetwork(clients *authority) *network {
	d.t.Helper()
	n := &network{daemon: d, ca: newAuthority(d.t, "servers"), log: &logged{}}
	n.cert, n.key = n.ca.issue("server", time.Now().Add(time.Hour))
	conf := TCP{Certificate: keyfile.Pair(n.cert, n.key)}
	if clients != nil {
		conf.ClientCA = keyfile.Authorities(clients.file)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		d.t.Fatal(err)
	}
	n.addr = l.Addr().String()
	n.url = "https://" + n.addr
	srv := &Server{Engine: d.engine, Nodes: d.nodes, Store: d.store, Principals: d.server.Principals, patience: d.server.patience, Metrics: d.server.Metrics, Overlays: d.server.Overlays, Log: slog.New(slog.NewTextHandler(n.log, nil))}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := srv.ServeTCP(ctx, l, conf); err != nil {
			d.t.Error(err)
		}
	}()
	d.t.Cleanup(func() {
		cancel()
		<-done
	})
	return n
}

// as is a client with a token, or with a certificate and its key in files.
func (n *network) as(token string, pair ...string) *Client {
	n.t.Helper()
	conf := &tls.Config{RootCAs: n.ca.pool()}
	if len(pair) == 2 {
		c, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			n.t.Fatal(err)
		}
		conf.Certificates = []tls.Certificate{c}
	}
	c, err := NewRemoteClient(Remote{URL: n.url, Token: token, TLS: conf})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}
