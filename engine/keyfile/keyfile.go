// Package keyfile reads secrets, certificates and lists of authorities from files, and
// reads them again when the files change: whoever rotates one restarts nothing.
package keyfile

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// maxSize bounds a file: a bundle of all the authorities that the web trusts has
// 220 KiB.
const maxSize = 4 << 20

// Value is what one or more files hold. Its methods may be called from several
// goroutines at once.
type Value[T any] struct {
	files []file
	parse func([][]byte) (T, error)

	mu    sync.Mutex // guards the fields below
	marks []mark     // of the files when they were read last
	value T          // what was good last
	err   error      // of the last reading
	told  func(error)
}

// file is where something is read from.
type file struct {
	path   string
	secret bool // it must not be readable for everybody
}

// mark tells one state of a file from another.
type mark struct {
	dev, ino     uint64
	size         int64
	mtime, ctime syscall.Timespec
	mode         fs.FileMode
}

// Get gives what the files hold now. With an error it also gives what was good last,
// the zero value when nothing was: a server goes on with the certificate it has, and
// nobody is let in by a token whose file is gone.
func (v *Value[T]) Get() (T, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	marks, err := v.look()
	if err == nil && v.marks != nil && same(marks, v.marks) {
		return v.value, v.err
	}
	v.marks = marks
	var got T
	if err == nil {
		got, err = v.read()
	}
	if err == nil {
		v.value = got
	} else if v.told != nil && (v.err == nil || v.err.Error() != err.Error()) {
		v.told(err)
	}
	v.err = err
	return v.value, err
}

// Told has f called with each error that is not the one before it, from within Get.
// It is set before the first Get, and gives v.
func (v *Value[T]) Told(f func(error)) *Value[T] {
	v.told = f
	return v
}

func (v *Value[T]) look() ([]mark, error) {
	var marks []mark
	for _, f := range v.files {
		info, err := os.Stat(f.path)
		if err != nil {
			return nil, err
		}
		m := mark{size: info.Size(), mode: info.Mode()}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			m.dev, m.ino, m.mtime, m.ctime = st.Dev, st.Ino, st.Mtim, st.Ctim
		}
		marks = append(marks, m)
	}
	return marks, nil
}

func same(a, b []mark) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func (v *Value[T]) read() (T, error) {
	var zero T
	var all [][]byte
	for _, f := range v.files {
		b, err := f.read()
		if err != nil {
			return zero, err
		}
		all = append(all, b)
	}
	return v.parse(all)
}

func (f file) read() ([]byte, error) {
	h, err := os.Open(f.path)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	info, err := h.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no file", f.path)
	case f.secret && info.Mode().Perm()&0o006 != 0:
		return nil, fmt.Errorf("%s is readable or writable for everybody (mode %04o), and it holds a secret: `chmod 600 %s`, and replace the secret if others may have read it", f.path, info.Mode().Perm(), f.path)
	}
	b, err := io.ReadAll(io.LimitReader(h, maxSize+1))
	if err == nil && len(b) > maxSize {
		err = fmt.Errorf("%s has more than %d bytes", f.path, maxSize)
	}
	return b, err
}

// Secret is a file of one line, whose end does not count. It is at least least bytes
// long, and not readable for everybody.
func Secret(path string, least int) *Value[[]byte] {
	return &Value[[]byte]{files: []file{{path, true}}, parse: func(b [][]byte) ([]byte, error) {
		line := bytes.TrimRight(b[0], "\r\n")
		switch {
		case len(line) == 0:
			return nil, fmt.Errorf("%s is empty: it must hold the secret, as its only line", path)
		case bytes.ContainsAny(line, "\r\n"):
			return nil, fmt.Errorf("%s has more than one line: it must hold the secret alone", path)
		case len(line) < least:
			return nil, fmt.Errorf("the secret in %s has %d bytes, and must have %d or more: `openssl rand -hex 32` makes a good one", path, len(line), least)
		}
		return line, nil
	}}
}

// Pair is a certificate, with those that lead from it to its authority, and its key,
// both PEM. While one of them does not go with the other yet, it is an error.
func Pair(cert, key string) *Value[*tls.Certificate] {
	return &Value[*tls.Certificate]{files: []file{{cert, false}, {key, true}}, parse: func(b [][]byte) (*tls.Certificate, error) {
		pair, err := tls.X509KeyPair(b[0], b[1])
		if err != nil {
			return nil, fmt.Errorf("%s and %s: %w", cert, key, err)
		}
		return &pair, nil
	}}
}

// Authorities are the certificates of a PEM file.
func Authorities(path string) *Value[*x509.CertPool] {
	return &Value[*x509.CertPool]{files: []file{{path, false}}, parse: func(b [][]byte) (*x509.CertPool, error) {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(b[0]) {
			return nil, fmt.Errorf("%s: %w", path, errNoCertificate)
		}
		return pool, nil
	}}
}

var errNoCertificate = errors.New("no certificate in it: want PEM, that begins with -----BEGIN CERTIFICATE-----")
