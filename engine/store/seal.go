package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// formatVersion of every JSON file of the state directory.
const formatVersion = 1

// maxFile bounds how much of one JSON file is read, in bytes.
const maxFile = 256 << 20

// envelope is what such a file holds: the digest is over the bytes of body as they
// stand there, so a torn or edited file is noticed.
type envelope struct {
	FormatVersion int             `json:"format_version"`
	SHA256        string          `json:"sha256"`
	Body          json.RawMessage `json:"body"`
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// seal encodes v with its digest.
func seal(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	// By hand: json.Marshal would format the body anew.
	return fmt.Appendf(nil, "{\"format_version\":%d,\"sha256\":%q,\"body\":%s}\n", formatVersion, digest(body), body), nil
}

// readSealed reads a file that seal made into v, and gives the digest of its body.
// A file that is not whole gives a *DamagedError; a missing one fs.ErrNotExist.
// So does one of more than most bytes, which is not read.
func readSealed(path string, most int64, v any) (string, error) {
	b, err := readState(path, most)
	if err != nil {
		return "", err
	}
	sum, err := unseal(b, v)
	if err != nil {
		return "", &DamagedError{Path: path, Err: err}
	}
	return sum, nil
}

func unseal(b []byte, v any) (string, error) {
	var e envelope
	if len(bytes.TrimSpace(b)) == 0 {
		return "", errors.New("it is empty")
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return "", err
	}
	if sum := digest(e.Body); sum != e.SHA256 {
		return "", fmt.Errorf("its content does not match its checksum")
	}
	// After the checksum: then it is a newer program's, not garbage.
	if e.FormatVersion != formatVersion {
		return "", fmt.Errorf("it has format version %d, this program reads %d", e.FormatVersion, formatVersion)
	}
	return e.SHA256, json.Unmarshal(e.Body, v)
}

// publish makes data the content of path in one step that survives a power cut
// when it returns: at any time the file is the old one or the new one.
func (s *Store) publish(path string, data []byte) error {
	return s.content.replace(path, data, renameio.WithStaticPermissions(0o640))
}

// replace makes data the content of path: see publish. mode says the permissions.
func (c *Content) replace(path string, data []byte, mode renameio.Option) error {
	if err := failpoint.Hit("store.publish.create"); err != nil {
		return err
	}
	// Not renameio's own choice of folder: tmp is emptied after a crash.
	f, err := renameio.NewPendingFile(path, renameio.WithTempDir(c.scratch), mode)
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if err := failpoint.Hit("store.publish.write"); err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := failpoint.Hit("store.publish.sync"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil { // the one below finds nothing to do
		return err
	}
	if err := failpoint.Hit("store.publish.rename"); err != nil {
		return err
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return err
	}
	if err := failpoint.Hit("store.publish.renamed"); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
