package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/renameio/v2"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
)

// AuditHead says how far the audit log had come. It is signed, so that nobody without
// the host key can take lines from the log's end and not be found out.
type AuditHead struct {
	FormatVersion int       `json:"format_version"`
	Time          time.Time `json:"time"`  // of the last line
	Lines         int64     `json:"lines"` // that are chained
	Bytes         int64     `json:"bytes"` // of the whole log
	Hash          string    `json:"hash"`  // of the last line
	HostKey       string    `json:"host_key"`
	Signature     []byte    `json:"signature,omitempty"` // of the rest, as JSON, for the purpose "audit head"
}

// headPurpose keeps the signatures of heads apart from others.
const headPurpose = "audit head"

// maxHead bounds how much of audit.head is read, in bytes.
const maxHead = 4 << 10

// signTail writes the head for t. Until it is on disk, the head before counts: it
// speaks of lines that are still there.
func (s *Store) signTail(t auditTail, at time.Time) error {
	key, err := s.hostKey()
	if err != nil {
		s.noted(err)
		return err
	}
	h := AuditHead{FormatVersion: auditFormat, Time: at.UTC(), Lines: t.lines, Bytes: t.size, Hash: t.hash, HostKey: key.Public()}
	body, err := json.Marshal(h)
	if err != nil {
		return err
	}
	h.Signature = key.Sign(headPurpose, body)
	data, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if err := failpoint.Hit("store.audit.head"); err != nil {
		return err
	}
	// Without syncing the folder: after a power cut it is this head or one before.
	// Not renameio's own choice of folder: tmp is emptied after a crash.
	return renameio.WriteFile(s.headPath(), append(data, '\n'), 0o640, renameio.WithTempDir(s.content.scratch), renameio.IgnoreUmask())
}

// readHead reads the head as it is on disk; whether its signature holds is not asked.
// A missing one gives fs.ErrNotExist.
func (s *Store) readHead() (*AuditHead, error) {
	b, err := readState(s.headPath(), maxHead)
	if err != nil {
		return nil, err
	}
	h, err := parseHead(b)
	if err != nil {
		return nil, &DamagedError{Path: s.headPath(), Err: err}
	}
	return h, nil
}

// parseHead reads a head. It is as it was written, to the last byte, or an error.
func parseHead(b []byte) (*AuditHead, error) {
	h := new(AuditHead)
	if err := json.Unmarshal(b, h); err != nil {
		return nil, err
	}
	again, err := json.Marshal(h)
	if err != nil || !bytes.Equal(append(again, '\n'), b) {
		return nil, errors.New("it is not in the form in which it is written")
	}
	if h.FormatVersion != auditFormat {
		return nil, fmt.Errorf("it has format version %d, this program reads %d", h.FormatVersion, auditFormat)
	}
	if h.Lines < 1 || h.Bytes < int64(hashLength) || len(h.Hash) != hashDigits {
		return nil, errors.New("it speaks of no log")
	}
	return h, nil
}

// signed reports whether the signature of h is that of the key; public is
// HostKey.Public.
func (h *AuditHead) signed(public string) error {
	if h.HostKey != public {
		return fmt.Errorf("it was signed with the key %s, want %s", h.HostKey, public)
	}
	bare := *h
	bare.Signature = nil
	body, err := json.Marshal(bare)
	if err != nil {
		return err
	}
	return verifyWith(public, headPurpose, body, h.Signature)
}
