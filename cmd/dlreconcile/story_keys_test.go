package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// signer is an authority of a story.
type signer struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newSigner() (*signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	s := &signer{key: key, cert: &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}}
	der, err := x509.CreateCertificate(rand.Reader, s.cert, s.cert, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	s.cert, err = x509.ParseCertificate(der)
	return s, err
}

// issue writes FILE.crt and FILE.key for 127.0.0.1 and liveServer.
func (s *signer) issue(dir, file, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.ParseIP(liveServer)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, s.cert, &key.PublicKey, s.key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, file+".crt"), "CERTIFICATE", der),
		writePEM(filepath.Join(dir, file+".key"), "PRIVATE KEY", private),
	)
}

func writePEM(path, kind string, der []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

func cmdKeys(_ *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: keys DIR")
	}
	dir := ts.MkAbs(args[0])
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	own, err := newSigner()
	if err != nil {
		return err
	}
	foreign, err := newSigner()
	if err != nil {
		return err
	}
	return errors.Join(
		writePEM(filepath.Join(dir, "ca.crt"), "CERTIFICATE", own.cert.Raw),
		own.issue(dir, "server", "server"), own.issue(dir, "ivan", "ivan"), foreign.issue(dir, "foreign", "ivan"),
	)
}

func cmdConfigure(s *story, ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: configure FILE")
	}
	b, err := os.ReadFile(ts.MkAbs(args[0]))
	if err != nil {
		return err
	}
	path := ts.MkAbs("etc-daemon.hcl")
	ts.Setenv("DLRECONCILE_CONFIG", path)
	return os.WriteFile(path, []byte(s.filler().Replace(string(b))), 0o600)
}

func cmdHangup(s *story, _ *testscript.TestScript, _ []string) error {
	if s.daemon == nil {
		return errors.New("no daemon runs")
	}
	return s.daemon.Process.Signal(syscall.SIGHUP)
}

func cmdWaitLog(s *story, _ *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: wait-log REGEXP")
	}
	return s.awaitLine("the log", args[0], func() (string, <-chan struct{}, error) {
		b, err := os.ReadFile(s.log.Name())
		return string(b), nil, err
	})
}
