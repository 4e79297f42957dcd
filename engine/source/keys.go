package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
)

const maxKeyFile = 16 << 20 // bytes

// keys are whom the operator trusts.
type keys struct {
	ssh signers
	pgp openpgp.EntityList
}

// rejection says why a signature proves nothing. The message follows the name of the
// commit in a sentence.
type rejection struct {
	reason  string // one of the Reason constants
	message string
}

func (r *rejection) Error() string { return r.message }

func reject(reason, format string, args ...any) *rejection {
	return &rejection{reason, fmt.Sprintf(format, args...)}
}

// readKeys reads all files of keys. They are small, and they are read for every
// verification: a key that was removed a moment ago counts no more.
func (t Trust) readKeys() (*keys, error) {
	fail := func(file string, err error) error { return fmt.Errorf("%w: %s: %w", ErrKeys, file, err) }
	var k keys
	if file := t.AllowedSigners; file != "" {
		data, err := readKeyFile(file)
		if err == nil {
			k.ssh, err = parseSigners(data)
		}
		if err != nil {
			return nil, fail(file, err)
		}
	}
	for _, file := range t.OpenPGPKeys {
		data, err := readKeyFile(file)
		var ring openpgp.EntityList
		if err == nil {
			ring, err = parseKeyring(data)
		}
		if err != nil {
			return nil, fail(file, err)
		}
		k.pgp = append(k.pgp, ring...)
	}
	return &k, nil
}

func readKeyFile(file string) ([]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() { // opening a pipe would wait
		return nil, errors.New("is not a file")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(data) > maxKeyFile {
		err = fmt.Errorf("has more than %d bytes", maxKeyFile)
	}
	return data, err
}

// occasion is when a signature counts.
type occasion struct {
	made time.Time // as the object says, and with it whoever signed it
	// now is the time of looking, for what is new; zero for what was trusted already.
	// Who holds a key that has expired can write any date: so the clock counts, too.
	now time.Time
}

// check says why a signature proves nothing; nil when a trusted key made it.
func (k *keys) check(s signed, when occasion) *rejection {
	switch sig := bytes.TrimLeft(s.signature, " \t\r\n"); {
	case len(sig) == 0:
		return reject(ReasonUnsigned, "is not signed")
	case bytes.HasPrefix(sig, signatureBegins[0]):
		return k.ssh.check(s, when)
	case bytes.HasPrefix(sig, signatureBegins[1]), bytes.HasPrefix(sig, signatureBegins[2]):
		return checkPGP(k.pgp, s, when)
	case bytes.HasPrefix(sig, signatureBegins[3]):
		return reject(ReasonBadSignature, "has an X.509 signature, which is not supported; sign with SSH or OpenPGP")
	default:
		return reject(ReasonBadSignature, "has a signature of an unknown kind")
	}
}
