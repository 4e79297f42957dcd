package store

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// hostKeyBlock is the type of the PEM block in host.key: PKCS #8, as RFC 5958 and
// RFC 8410 have it for Ed25519.
const hostKeyBlock = "PRIVATE KEY"

// maxHostKey bounds how much of host.key is read, in bytes.
const maxHostKey = 4 << 10

// HostKey is the key of one state directory. What it signs is only accepted there.
type HostKey struct{ private ed25519.PrivateKey }

// Public gives the public half: "ed25519:" and the 32 bytes in base64.
func (k *HostKey) Public() string {
	return "ed25519:" + base64.StdEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
}

// Sign signs message for one purpose: a signature for another one does not verify.
// The same message gives the same signature (RFC 8032).
func (k *HostKey) Sign(purpose string, message []byte) []byte {
	return ed25519.Sign(k.private, purposeful(purpose, message))
}

// Verify reports whether sig is what Sign gives.
func (k *HostKey) Verify(purpose string, message, sig []byte) bool {
	public := k.private.Public().(ed25519.PublicKey)
	return len(sig) == ed25519.SignatureSize && ed25519.Verify(public, purposeful(purpose, message), sig)
}

// verifyWith reports why sig is not what Sign gives with the key whose Public is
// known; nil when it is.
func verifyWith(public, purpose string, message, sig []byte) error {
	text, ok := strings.CutPrefix(public, "ed25519:")
	key, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(key) != ed25519.PublicKeySize {
		return fmt.Errorf("%q is no public key of a host: want ed25519: and 32 bytes in base64", public)
	}
	if len(sig) != ed25519.SignatureSize || !ed25519.Verify(key, purposeful(purpose, message), sig) {
		return errors.New("its signature does not hold")
	}
	return nil
}

// Digest gives a digest of something secret, "hmac-sha256:" and 64 hex digits. Who
// does not have the key learns nothing of message by guessing at it.
func (k *HostKey) Digest(purpose string, message []byte) string {
	mac := hmac.New(sha256.New, k.private.Seed())
	mac.Write(purposeful(purpose, message))
	return "hmac-sha256:" + hex.EncodeToString(mac.Sum(nil))
}

// purposeful keeps purposes apart: none has a zero byte in it.
func purposeful(purpose string, message []byte) []byte {
	return append(append([]byte("dlreconcile "+purpose), 0), message...)
}

// HostKey gives the key of this state directory, and makes it the first time; then
// it is on disk when it is returned. A store that was opened for reading gives the
// key that is there, or an error.
//
// A key that is damaged is an error and stays: with another one in its place every
// plan saved before would be refused as if somebody had forged it. To give it up,
// the operator removes the file.
func (s *Store) HostKey() (*HostKey, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hostKey()
}

func (s *Store) hostKey() (*HostKey, error) {
	path := filepath.Join(s.dir, "host.key")
	k, err := readHostKey(path)
	if !missing(err) {
		if err != nil {
			return nil, fmt.Errorf("host key: %w", err)
		}
		return k, nil
	}
	if err := s.writable(); err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	if k, err = s.makeHostKey(path); err != nil {
		return nil, fmt.Errorf("host key: %w", err)
	}
	return k, nil
}

func readHostKey(path string) (*HostKey, error) {
	b, err := readState(path, maxHostKey)
	if err != nil {
		return nil, err
	}
	k, err := parseHostKey(b)
	if err != nil {
		return nil, &DamagedError{Path: path, Err: err}
	}
	return k, nil
}

func parseHostKey(b []byte) (*HostKey, error) {
	block, _ := pem.Decode(b)
	if block == nil || block.Type != hostKeyBlock {
		return nil, errors.New("it is not a private key in PEM form; remove it, and a new one is made: plans that were saved before are then refused")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, want an Ed25519 key", key)
	}
	return &HostKey{private}, nil
}

// makeHostKey makes the key. Its name in the directory is whole or missing, and only
// the owner may ever read it.
func (s *Store) makeHostKey(path string) (*HostKey, error) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	data := pem.EncodeToMemory(&pem.Block{Type: hostKeyBlock, Bytes: der})
	if err := failpoint.Hit("store.hostkey.make"); err != nil {
		return nil, err
	}
	return &HostKey{private}, s.content.replace(path, data, renameio.WithStaticPermissions(0o600))
}
