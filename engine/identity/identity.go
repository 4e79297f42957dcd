// Package identity opens files that are encrypted for the daemon with age(1): secrets
// that a repo may hold, because who reads the repo cannot read them.
package identity

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"
)

// Bounds, in bytes, of a file of identities, and of what an encrypted file may hold.
const (
	maxIdentities = 64 << 10
	maxPlain      = 1 << 20
)

// ErrNone says that the daemon has no identity.
var ErrNone = errors.New("there is no identity to decrypt it with: name a file of them with --age-identity, or give the systemd credential " + Credential)

// Credential is the name of the systemd credential that is used where no file is named.
const Credential = "dlreconcile.age"

// File is a file of identities: lines as age-keygen(1) writes them, or an SSH private
// key (Ed25519 or RSA) without a passphrase. It is read each time. The zero File has no
// identities.
type File struct{ Path string }

// Open decrypts what is in the age format, version 1, binary or armored. Its errors say
// nothing of what is in there.
func (f File) Open(sealed []byte) ([]byte, error) {
	if f.Path == "" {
		return nil, ErrNone
	}
	ids, err := f.identities()
	if err != nil {
		return nil, err
	}
	var r io.Reader = bytes.NewReader(sealed)
	if text := bytes.TrimLeft(sealed, " \t\r\n"); bytes.HasPrefix(text, []byte(armor.Header)) {
		r = armor.NewReader(bytes.NewReader(text))
	}
	plain, err := age.Decrypt(r, ids...)
	var other *age.NoIdentityMatchError
	switch {
	case errors.As(err, &other):
		return nil, fmt.Errorf("it is encrypted for others than the identities in %s: encrypt it for %s", f.Path, f.recipients(ids))
	case err != nil:
		return nil, fmt.Errorf("it is not a file that age(1) wrote, or is damaged: %s", strings.TrimPrefix(err.Error(), "failed to read header: "))
	}
	b, err := io.ReadAll(io.LimitReader(plain, maxPlain+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("it is damaged: %w", err)
	case len(b) > maxPlain:
		return nil, fmt.Errorf("it holds more than %d bytes", maxPlain)
	}
	return b, nil
}

// identities reads the file. What is in it does not get into errors.
func (f File) identities() ([]age.Identity, error) {
	h, err := os.Open(f.Path)
	if err != nil {
		return nil, fmt.Errorf("the identities cannot be read: %w", err)
	}
	defer h.Close()
	st, err := h.Stat()
	if err != nil {
		return nil, fmt.Errorf("the identities cannot be read: %w", err)
	}
	if st.Mode().IsRegular() && st.Mode().Perm()&0o007 != 0 {
		return nil, fmt.Errorf("anybody on this machine may use the identities in %s: chmod 0600 it", f.Path)
	}
	b, err := io.ReadAll(io.LimitReader(h, maxIdentities+1))
	if err != nil {
		return nil, fmt.Errorf("the identities cannot be read: %w", err)
	}
	if len(b) > maxIdentities {
		return nil, fmt.Errorf("%s has more than %d bytes: it is no file of identities", f.Path, maxIdentities)
	}
	if bytes.Contains(b, []byte("PRIVATE KEY-----")) {
		id, err := agessh.ParseIdentity(b)
		if err != nil {
			return nil, fmt.Errorf("%s is no SSH key that can be used: it must be Ed25519 or RSA, and without a passphrase", f.Path)
		}
		return []age.Identity{id}, nil
	}
	ids, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		return nil, fmt.Errorf("%s is no file of identities: it must hold lines that begin with AGE-SECRET-KEY-1, as age-keygen writes them, or an SSH private key", f.Path)
	}
	return ids, nil
}

// recipients tells for whom to encrypt.
func (f File) recipients(ids []age.Identity) string {
	var list []string
	for _, id := range ids {
		if id, ok := id.(*age.X25519Identity); ok {
			list = append(list, id.Recipient().String())
		}
	}
	if len(list) == 0 {
		return "the public half of that SSH key"
	}
	return strings.Join(list[:min(len(list), 4)], " or ")
}
