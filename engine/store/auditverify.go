package store

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

// AuditReport is what checking an audit log came to.
type AuditReport struct {
	Lines    int64  `json:"lines"`    // chained ones that were read, the last sound one included
	Unsigned int64  `json:"unsigned"` // of them behind the one that audit.head signs: a process ended before it could sign
	Attested int64  `json:"attested"` // bytes that are no chained lines, and that a chained line vouches for
	HostKey  string `json:"host_key,omitempty"`
	// Wrong is the first thing that is wrong; nil when nothing is.
	Wrong *AuditFault `json:"wrong,omitempty"`
}

// AuditFault is why an audit log is not to be believed from some line on.
type AuditFault struct {
	Line    int64  `json:"line"` // number of the line in the file, from 1; of the last one when the fault is behind it
	Message string `json:"message"`
}

func (f *AuditFault) Error() string { return fmt.Sprintf("audit log: line %d: %s", f.Line, f.Message) }

// VerifyAudit checks the audit log of this state directory. public is the public half
// of the host key that must have signed, as HostKey.Public gives it; "" is that of the
// key in the directory. What is wrong is in the report; an error means that it could
// not be read.
func (s *Store) VerifyAudit(public string) (AuditReport, error) {
	r, err := s.verifyAudit(public)
	for n := 0; n < 3 && err == nil && r.Wrong != nil; n++ {
		// A daemon may have been in the middle of a line; it is not for long.
		was := r.Wrong.Message
		if r, err = s.verifyAudit(public); err == nil && r.Wrong != nil && r.Wrong.Message == was {
			break
		}
	}
	if err != nil {
		return r, fmt.Errorf("audit log: %w", err)
	}
	return r, nil
}

func (s *Store) verifyAudit(public string) (AuditReport, error) {
	var r AuditReport
	// Before the log: what is written meanwhile is behind what it signs.
	head, headErr := s.readHead()
	if headErr != nil && !missing(headErr) && !errors.As(headErr, new(*DamagedError)) {
		return r, headErr
	}
	if public == "" && head != nil {
		key, err := s.HostKey()
		if err != nil {
			return r, fmt.Errorf("%w; give the public half of the key with --key", err)
		}
		public = key.Public()
	}
	f, err := openState(s.auditPath())
	switch {
	case missing(err) && head == nil && headErr != nil && missing(headErr):
		if cur, ok, err := s.Current(); err == nil && ok {
			r.Wrong = &AuditFault{1, fmt.Sprintf("there is no log, and generation %d is recorded", cur.Number)}
		}
		return r, nil
	case missing(err):
		r.Wrong = &AuditFault{1, "the log is missing, and audit.head speaks of one"}
		return r, nil
	case err != nil:
		return r, err
	}
	defer f.Close()
	return verifyAudit(f, head, headErr, public)
}

// verifyAudit checks a log. headErr is why head is nil.
func verifyAudit(log io.Reader, head *AuditHead, headErr error, public string) (AuditReport, error) {
	v := newAuditVerifier(head)
	if err := eachLine(log, v.line); err != nil && v.report.Wrong == nil {
		return v.report, err
	}
	v.end(headErr, public)
	return v.report, nil
}

// errStopVerify ends the reading of a log that is wrong.
var errStopVerify = errors.New("wrong")

// auditVerifier goes through a log from its first line on.
type auditVerifier struct {
	report AuditReport
	head   *AuditHead // nil: none that can be read
	met    bool       // the line that head signs was read
	number int64      // of the line read last
	prev   string     // hash of the chained line before

	gap     hash.Hash // over the bytes since that line
	gapSize int64
	gapLine int64 // the first line of them
	gapWhy  error
	torn    bool // the last of them has no line end
}

func newAuditVerifier(head *AuditHead) *auditVerifier {
	return &auditVerifier{head: head, gap: sha256.New()}
}

func (v *auditVerifier) wrong(line int64, format string, args ...any) error {
	if v.report.Wrong == nil {
		v.report.Wrong = &AuditFault{line, fmt.Sprintf(format, args...)}
	}
	return errStopVerify
}

// line takes the next line. It is of eachLine's form.
func (v *auditVerifier) line(at int64, line []byte, whole bool) error {
	v.number++
	e, err := unchainLine(line)
	if err != nil || !whole {
		if v.gapSize == 0 {
			v.gapLine, v.gapWhy = v.number, err
		}
		v.gap.Write(line)
		v.gapSize += int64(len(line))
		v.torn = !whole
		if whole {
			v.gap.Write([]byte{'\n'})
			v.gapSize++
		}
		return nil
	}
	if err := v.between(e.Before); err != nil {
		return err
	}
	switch {
	case e.Prev != v.prev && v.prev == "":
		return v.wrong(v.number, "the lines before it are missing: it follows a line with the hash %s", short(e.Prev))
	case e.Prev != v.prev:
		return v.wrong(v.number, "it does not follow the line before it: one was removed, inserted or moved, or cut off before this one was written")
	case e.HeadLost != "":
		return v.wrong(v.number, "when it was written audit.head could not be believed (%s): lines before it may have been cut off", e.HeadLost)
	}
	v.prev = e.Hash
	v.report.Lines++
	if v.met {
		v.report.Unsigned++
	}
	if h := v.head; h != nil && v.report.Lines == h.Lines {
		if e.Hash != h.Hash || at+int64(len(line))+1 != h.Bytes {
			return v.wrong(v.number, "audit.head signs another line in its place")
		}
		v.met = true
	}
	return nil
}

// between checks the bytes since the last chained line against what the next one says
// of them.
func (v *auditVerifier) between(said *AuditBytes) error {
	sum := hex.EncodeToString(v.gap.Sum(nil))
	switch {
	case v.gapSize == 0 && said == nil:
		return nil
	case v.gapSize == 0:
		return v.wrong(v.number, "it speaks of %d bytes before it, which are not there", said.Bytes)
	case said == nil || said.Bytes != v.gapSize || said.SHA256 != sum:
		return v.wrong(v.gapLine, "%v", v.gapWhy)
	}
	v.report.Attested += v.gapSize
	v.gap.Reset()
	v.gapSize = 0
	return nil
}

// end takes the end of the log. headErr is why there is no head.
func (v *auditVerifier) end(headErr error, public string) {
	if v.report.Wrong != nil {
		return
	}
	switch {
	case v.gapSize > 0 && v.torn:
		_ = v.wrong(v.number, "it is cut off: power was lost while it was written, or somebody cut it; the next line says that it was found so")
	case v.gapSize > 0 && v.report.Lines == 0 && missing(headErr):
		_ = v.wrong(1, "the log is of an older version and has no chain yet: it begins with the next line")
	case v.gapSize > 0:
		_ = v.wrong(v.gapLine, "%v", v.gapWhy)
	case missing(headErr) && v.report.Lines > 1:
		_ = v.wrong(v.number, "audit.head is missing: whether lines behind it were cut off cannot be told")
	case missing(headErr):
		v.report.Unsigned = v.report.Lines // the process ended before the first head
	case headErr != nil:
		_ = v.wrong(v.number, "whether lines behind it were cut off cannot be told: %v", headErr)
	case !v.met:
		_ = v.wrong(max(1, v.number), "lines behind it are cut off: audit.head signs line %d of the chain, written at %s", v.head.Lines, v.head.Time.Format(time.RFC3339))
	default:
		if err := v.head.signed(public); err != nil {
			_ = v.wrong(v.number, "whether lines behind it were cut off cannot be told: audit.head: %v", err)
		}
		v.report.HostKey = v.head.HostKey
	}
}

// EachAudit calls do with every line of the audit log that can be read, the oldest
// first, until do gives an error, which it returns. It checks no hashes. A log that is
// missing has no lines.
func (s *Store) EachAudit(do func(AuditEntry) error) error {
	f, err := openState(s.auditPath())
	if missing(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	defer f.Close()
	return eachLine(io.Reader(f), func(_ int64, line []byte, _ bool) error {
		var e AuditEntry
		if json.Unmarshal(line, &e) != nil || e.FormatVersion < 1 {
			return nil
		}
		return do(e)
	})
}

func short(hash string) string { return hash[:min(12, len(hash))] }
