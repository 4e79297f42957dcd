package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dlreconcile/dlreconcile/engine/failpoint"
	"github.com/dlreconcile/dlreconcile/engine/statefile"
)

// AuditLink ties a line of the audit log to the one before it. Lines of before the
// log was chained have none.
type AuditLink struct {
	// Before, when not nil, attests bytes between the line before and this one that are
	// no chained lines: what a power cut left of a line, and, at the first chained line,
	// the lines of an older version of this program.
	Before *AuditBytes `json:"before,omitempty"`
	// HeadLost says why audit.head could not be believed when this line was written:
	// lines before it may have been cut off.
	HeadLost string `json:"head_lost,omitempty"`
	Prev     string `json:"prev"` // Hash of the chained line before; "" for the first
	// Hash is the SHA-256, in hex, of this line without this member and without its
	// line end. It is the last member.
	Hash string `json:"hash,omitempty"`
}

// AuditBytes is a run of bytes.
type AuditBytes struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// The end of a line: hashMember, 64 hex digits, hashEnd.
const (
	hashMember = `,"hash":"`
	hashEnd    = `"}`
	hashDigits = 2 * sha256.Size
	hashLength = len(hashMember) + hashDigits + len(hashEnd)
)

// chainLine gives e as a line, without its line end, and its hash.
func chainLine(e AuditEntry) (line []byte, hash string, err error) {
	e.Hash = ""
	line, err = json.Marshal(e)
	if err != nil {
		return nil, "", err
	}
	sum := sha256.Sum256(line)
	hash = hex.EncodeToString(sum[:])
	return append(append(append(line[:len(line)-1], hashMember...), hash...), hashEnd...), hash, nil
}

// errEdited says that a line is not what was written.
var errEdited = errors.New("it is not what was written: its hash is that of other bytes")

// errUnchained says that a line is none of a chain.
var errUnchained = errors.New("it is no line of the chain")

// unchainLine reads a line, without its line end, and checks its hash.
func unchainLine(line []byte) (AuditEntry, error) {
	var e AuditEntry
	at := len(line) - hashLength
	if at < 0 || !bytes.HasPrefix(line[at:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(hashEnd)) {
		return e, errUnchained
	}
	said := line[at+len(hashMember) : len(line)-len(hashEnd)]
	h := sha256.New()
	h.Write(line[:at])
	h.Write([]byte("}"))
	if hex.EncodeToString(h.Sum(nil)) != string(said) {
		return e, errEdited
	}
	if err := json.Unmarshal(line, &e); err != nil || e.FormatVersion < 1 || e.Hash != string(said) {
		return AuditEntry{}, errEdited
	}
	return e, nil
}

// auditTail is where the log ends, as far as it is to be believed. The zero value is
// that of an empty one.
type auditTail struct {
	size  int64  // behind the last line that counts
	lines int64  // chained ones
	hash  string // of the last one; "" when there is none
	again bool   // the disk may have kept of a line what it was to give back
	lost  string // why the head could not be believed; "" when it could
}

// Audit appends a line to the audit log. It is on disk when Audit returns nil; after
// an error it is not there, unless the disk refuses to take it back: then the same
// line, given again, takes its own place. Time is filled in when it is zero. What a
// power cut left of a line stays as it is, on a line of its own, and what somebody
// took away or edited shows in the chain for ever: see VerifyAudit.
func (s *Store) Audit(e AuditEntry) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.audit(e); err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	return nil
}

func (s *Store) audit(e AuditEntry) error {
	if err := s.writable(); err != nil {
		return err
	}
	e.FormatVersion = auditFormat
	if e.Time.IsZero() {
		e.Time = s.now()
	}
	e.Time = e.Time.UTC()
	if e.Changes == nil {
		e.Changes = []AuditChange{}
	}
	f, err := statefile.Open(s.auditPath(), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.tail == nil {
		t, err := s.findTail(f)
		if err != nil {
			return err
		}
		s.tail = &t
	}
	t := *s.tail
	at, line, err := t.next(f, &e)
	if err != nil {
		return err
	}
	if err := s.appendLine(f, at, line); err != nil {
		s.tail.again = true
		return err
	}
	t = auditTail{size: at + int64(len(line)), lines: t.lines + 1, hash: e.Hash}
	s.tail = &t
	if err := s.signTail(t, e.Time); err != nil {
		// The line is there; until the next one the head speaks of those before it.
		s.log.Error("the end of the audit log cannot be signed", "error", err)
	}
	return nil
}

// next makes the bytes of the line of e that follows t, links e with it, and says
// where they go: at the end of f. They begin with a line end when f has none there.
func (t auditTail) next(f *os.File, e *AuditEntry) (at int64, line []byte, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, nil, err
	}
	at = info.Size()
	e.AuditLink = AuditLink{Prev: t.hash, HeadLost: t.lost}
	var lead []byte
	if at > t.size && t.again {
		// What the disk did not give back of this very line is written over.
		body, hash, err := chainLine(*e)
		if err != nil {
			return 0, nil, err
		}
		line = append(body, '\n')
		if same, err := isPrefix(f, t.size, at-t.size, line); same || err != nil {
			e.Hash = hash
			return t.size, line, err
		}
	}
	if at > t.size {
		h := sha256.New()
		if _, err := io.Copy(h, io.NewSectionReader(f, t.size, at-t.size)); err != nil {
			return 0, nil, err
		}
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, at-1); err != nil {
			return 0, nil, err
		}
		if last[0] != '\n' {
			lead = []byte{'\n'}
			h.Write(lead)
		}
		e.Before = &AuditBytes{Bytes: at - t.size + int64(len(lead)), SHA256: hex.EncodeToString(h.Sum(nil))}
	}
	body, hash, err := chainLine(*e)
	if err != nil {
		return 0, nil, err
	}
	e.Hash = hash
	return at, append(append(lead, body...), '\n'), nil
}

// appendLine puts line at the end of f, at an offset, and on disk, or takes back what
// it wrote of it.
func (s *Store) appendLine(f *os.File, at int64, line []byte) error {
	err := failpoint.Hit("store.audit.write")
	if err == nil {
		_, err = f.WriteAt(line, at)
	}
	if err == nil {
		err = failpoint.Hit("store.audit.sync")
	}
	if err == nil {
		err = s.syncAudit(f)
	}
	if err == nil && at == 0 {
		err = syncDir(s.dir)
	}
	if err == nil {
		return nil
	}
	// The line was not promised to anybody, and is written again. Nothing is lost when
	// even this fails: the next line attests what stands there.
	if back := f.Truncate(at); back != nil {
		return errors.Join(err, back)
	}
	return err
}

// isPrefix reports whether n bytes of f, from an offset on, are what text begins with.
func isPrefix(f io.ReaderAt, at, n int64, text []byte) (bool, error) {
	if n > int64(len(text)) {
		return false, nil
	}
	got := make([]byte, n)
	if _, err := f.ReadAt(got, at); err != nil {
		return false, err
	}
	return bytes.HasPrefix(text, got), nil
}

// findTail finds where a chain goes on: behind the last line that was signed for, or
// a later one. When what was signed for is not there, the next line refers to it all
// the same, so that the loss shows.
func (s *Store) findTail(f *os.File) (auditTail, error) {
	var t auditTail
	head, lost := s.soundHead()
	info, err := f.Stat()
	if err != nil {
		return t, err
	}
	if head != nil {
		t = auditTail{size: head.Bytes, lines: head.Lines, hash: head.Hash}
		if info.Size() < head.Bytes || endsWith(f, head.Bytes, head.Hash) != nil {
			t.size = info.Size()
			return t, nil
		}
	}
	err = eachLine(io.NewSectionReader(f, t.size, info.Size()-t.size), func(at int64, line []byte, whole bool) error {
		if e, err := unchainLine(line); err == nil && whole {
			t.lines, t.hash = t.lines+1, e.Hash
			t.size = at + int64(len(line)) + 1
			if head != nil {
				t.size += head.Bytes
			}
		}
		return nil
	})
	// The process may have ended between the first line and the first head.
	if lost != nil && (t.lines > 1 || !missing(lost)) {
		t.lost = lost.Error()
	}
	return t, err
}

// soundHead gives the head, if it is there and this directory's key signed it.
func (s *Store) soundHead() (*AuditHead, error) {
	head, err := s.readHead()
	if err != nil {
		return nil, err
	}
	key, err := s.hostKey()
	if err == nil {
		err = head.signed(key.Public())
	}
	if err != nil {
		return nil, err
	}
	return head, nil
}

// endsWith reports why the line that ends at an offset has not that hash; nil when it
// has.
func endsWith(f io.ReaderAt, at int64, hash string) error {
	want := hash + hashEnd + "\n"
	got := make([]byte, len(want))
	if at < int64(len(want)) {
		return errUnchained
	}
	if _, err := f.ReadAt(got, at-int64(len(want))); err != nil {
		return err
	}
	if string(got) != want {
		return errEdited
	}
	return nil
}

// eachLine calls do with each line of r, without its line end, and where it begins.
// whole is false for a last one that has no line end. A line longer than any file that
// is read here gives an error.
func eachLine(r io.Reader, do func(at int64, line []byte, whole bool) error) error {
	const block = 64 << 10
	var have []byte
	var at int64
	buf := make([]byte, block)
	for {
		n, err := r.Read(buf)
		have = append(have, buf[:n]...)
		for {
			i := bytes.IndexByte(have, '\n')
			if i < 0 {
				break
			}
			if err := do(at, have[:i], true); err != nil {
				return err
			}
			at += int64(i) + 1
			have = have[i+1:]
		}
		switch {
		case errors.Is(err, io.EOF):
			if len(have) > 0 {
				return do(at, have, false)
			}
			return nil
		case err != nil:
			return err
		case len(have) > maxFile:
			return errors.New("a line is too long")
		}
	}
}

func (s *Store) headPath() string { return filepath.Join(s.dir, "audit.head") }
