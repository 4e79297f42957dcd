package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostKeyIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	k, err := s.HostKey()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "host.key")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := mustOpen(t, dir, Options{}).HostKey()
	if err != nil || again.Public() != k.Public() || !strings.HasPrefix(k.Public(), "ed25519:") {
		t.Errorf("%v, %v", again, err)
	}
	reader, err := OpenReadOnly(dir)
	if err != nil {
		t.Fatal(err)
	}
	if read, err := reader.HostKey(); err != nil || read.Public() != k.Public() {
		t.Errorf("%v, %v", read, err)
	}

	sig := k.Sign("plan", []byte("text"))
	if !k.Verify("plan", []byte("text"), sig) || k.Verify("plan", []byte("texT"), sig) || k.Verify("other", []byte("text"), sig) || k.Verify("plan", []byte("text"), sig[1:]) {
		t.Error("signatures do not say what they should")
	}
	other, err := mustOpen(t, t.TempDir(), Options{}).HostKey()
	if err != nil {
		t.Fatal(err)
	}
	if other.Verify("plan", []byte("text"), sig) || other.Digest("v", []byte("1")) == k.Digest("v", []byte("1")) || k.Digest("v", []byte("1")) == k.Digest("w", []byte("1")) {
		t.Error("two directories have one key")
	}
}

func TestHostKeyThatIsDamagedStays(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{})
	path := filepath.Join(dir, "host.key")
	for _, text := range []string{"", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.HostKey(); !errors.As(err, new(*DamagedError)) {
			t.Errorf("%q: %v", text, err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != text {
			t.Errorf("%q became %q, %v", text, b, err)
		}
	}
	reader, err := OpenReadOnly(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.HostKey(); !errors.Is(err, ErrReadOnly) {
		t.Errorf("%v", err)
	}
}

func FuzzHostKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := parseHostKey(b)
		if err == nil && !k.Verify("p", b, k.Sign("p", b)) {
			t.Error("a key does not know its own signature")
		}
	})
}
