package source

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
)

// What Trust.Verify says.
const (
	VerifyNone  = "none"  // signatures do not count
	VerifyTip   = "tip"   // the commit that is served must be signed
	VerifyEvery = "every" // and so must all commits since the last trusted one
)

// What Trust.Rewind says about a tip that does not descend from the last trusted one.
const (
	RewindRefuse = "refuse"
	RewindAccept = "accept"
)

// Trust says which commits may be served. The zero value asks for no signature and
// refuses a rewind. The files are outside of the repository, and are read anew for
// each commit: nothing that a commit brings changes whom to trust.
type Trust struct {
	// Verify is one of the constants above. Default: VerifyTip where there are keys,
	// else VerifyNone.
	Verify string
	// AllowedSigners is a file of SSH keys; see ssh-keygen(1), ALLOWED SIGNERS.
	AllowedSigners string
	// OpenPGPKeys are files of public keys, armored or binary.
	OpenPGPKeys []string
	// Rewind is RewindRefuse (default) or RewindAccept.
	Rewind string
	// Anchor is the full hash of the commit that counts as trusted while none passed
	// with Verify: with it, VerifyEvery begins there instead of at the first tip that
	// is seen, or at one that was trusted with less.
	Anchor string
}

// Trusted is the newest commit that was trusted; the zero value is none.
type Trusted struct {
	Commit string // full hash
	// Verify is the setting with which it passed: it was looked at no closer than that.
	// "" counts as VerifyNone.
	Verify string
}

// covers says whether what passed with the setting have passes with need as well.
func covers(have, need string) bool {
	return need == VerifyNone || have == VerifyEvery || have == VerifyTip && need == VerifyTip
}

// Why a commit is not trusted.
const (
	ReasonUnsigned     = "unsigned"
	ReasonBadSignature = "bad_signature" // it does not match, or is of a kind that proves nothing
	ReasonUnknownKey   = "unknown_key"   // made by a key that is not among the trusted ones
	ReasonExpired      = "expired"       // the key, or the signature, is not valid (any more)
	ReasonRewound      = "rewound"       // it does not descend from the last trusted commit
	ReasonHistory      = "history"       // whether it does cannot be found out
)

// UntrustedError says why a commit is not served.
type UntrustedError struct {
	Revision string // full hash of the commit that was asked about
	Commit   string // full hash of the commit at fault: the same, or one before it
	Reason   string // one of the constants above
	Message  string // for the operator: what is wrong, and what to do
}

func (e *UntrustedError) Error() string {
	if e.Commit != e.Revision {
		return fmt.Sprintf("not trusted: commit %s before it %s", short(e.Commit), e.Message)
	}
	return "not trusted: commit " + short(e.Commit) + " " + e.Message
}

// ErrKeys: a file of trusted keys cannot be read, or holds something else. Nothing
// new is trusted then.
var ErrKeys = errors.New("the trusted keys cannot be read")

func short(hash string) string { return hash[:min(len(hash), 12)] }

// withDefaults checks what can be checked without reading a key.
func (t Trust) withDefaults(dirs gitDirs) (Trust, error) {
	keys := t.OpenPGPKeys
	if t.AllowedSigners != "" {
		keys = append([]string{t.AllowedSigners}, keys...)
	}
	switch {
	case t.Verify == "" && len(keys) > 0:
		t.Verify = VerifyTip
	case t.Verify == "":
		t.Verify = VerifyNone
	}
	if t.Rewind == "" {
		t.Rewind = RewindRefuse
	}
	switch t.Verify {
	case VerifyNone:
	case VerifyTip, VerifyEvery:
		if len(keys) == 0 {
			return t, fmt.Errorf("trust: verify = %q needs keys: name a file of allowed signers or of OpenPGP keys", t.Verify)
		}
	default:
		return t, fmt.Errorf("trust: verify = %q: want %q, %q or %q", t.Verify, VerifyNone, VerifyTip, VerifyEvery)
	}
	if t.Rewind != RewindRefuse && t.Rewind != RewindAccept {
		return t, fmt.Errorf("trust: rewind = %q: want %q or %q", t.Rewind, RewindRefuse, RewindAccept)
	}
	if t.Anchor != "" && !plumbing.IsHash(t.Anchor) {
		return t, fmt.Errorf("trust: anchor = %q: want the full hash of a commit", t.Anchor)
	}
	for _, file := range keys {
		if err := outside(file, dirs); err != nil {
			return t, err
		}
	}
	return t, nil
}

// overTheWire refuses a transport that anybody on the way may answer, unless the
// commits say themselves whose they are or the operator says that it does not matter.
// Plain http is no better, but is what forges on a laboratory's own network offer.
func (t Trust) overTheWire(remote string) error {
	if !strings.HasPrefix(remote, "git://") || t.Verify != "" || t.AllowedSigners != "" || len(t.OpenPGPKeys) > 0 {
		return nil
	}
	return fmt.Errorf("repository %s: git:// proves nothing about who answers; use https, or have the commits signed (verify = %q and keys), or write verify = %q if nobody else can be on the way", remote, VerifyTip, VerifyNone)
}

// outside refuses a key file that a commit could change.
func outside(file string, dirs gitDirs) error {
	abs, err := filepath.Abs(file)
	if err != nil {
		return fmt.Errorf("trust: %s: %w", file, err)
	}
	real := func(p string) string {
		if r, err := filepath.EvalSymlinks(p); err == nil {
			return r
		}
		return p
	}
	for _, dir := range []string{dirs.work, dirs.dot, dirs.common} {
		if dir == "" {
			continue
		}
		for _, pair := range [][2]string{{abs, dir}, {real(abs), real(dir)}} {
			rel, err := filepath.Rel(pair[1], pair[0])
			if err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
				return fmt.Errorf("trust: the key file %s is inside of the repository %s, where a commit could change it; keep it elsewhere", file, dir)
			}
		}
	}
	return nil
}
