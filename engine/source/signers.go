package source

import (
	"bytes"
	"crypto/rsa"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/hiddeco/sshsig"
	"golang.org/x/crypto/ssh"
)

const (
	maxSigners    = 10_000
	maxSignerLine = 64 << 10 // bytes
	// namespace is what Git signs commits and tags for, see git-config(1),
	// gpg.format.
	namespace = "git"
	leastRSA  = 2048 // bits
)

// signers is a file of allowed signers, see ssh-keygen(1): the trusted lines by key.
type signers struct {
	keys        map[string][]signer
	authorities map[string][]signer
}

// signer is one line of the file.
type signer struct {
	line       int
	principals string // a pattern list; it says something only of certificates
	namespaces string // a pattern list; "": any
	after      time.Time
	before     time.Time // inclusive; zero: for ever
}

// parseSigners reads a file of allowed signers. One bad line makes it useless: what it
// was meant to say may be a restriction.
func parseSigners(data []byte) (signers, error) {
	out := signers{keys: map[string][]signer{}, authorities: map[string][]signer{}}
	count, n := 0, 0
	for text := range bytes.Lines(data) {
		n++
		line := strings.TrimSpace(string(text))
		if line == "" || line[0] == '#' {
			continue
		}
		if count++; count > maxSigners {
			return out, fmt.Errorf("has more than %d lines of keys", maxSigners)
		}
		s, key, authority, err := parseSigner(line)
		if err != nil {
			return out, fmt.Errorf("line %d: %w", n, err)
		}
		s.line = n
		to := out.keys
		if authority {
			to = out.authorities
		}
		to[string(key.Marshal())] = append(to[string(key.Marshal())], s)
	}
	return out, nil
}

// parseSigner reads "PRINCIPALS [OPTIONS] TYPE KEY [COMMENT]".
func parseSigner(line string) (s signer, key ssh.PublicKey, authority bool, err error) {
	fail := func(format string, args ...any) (signer, ssh.PublicKey, bool, error) {
		return signer{}, nil, false, fmt.Errorf(format, args...)
	}
	if len(line) > maxSignerLine {
		return fail("is longer than %d bytes", maxSignerLine)
	}
	var rest string
	if quoted, ok := strings.CutPrefix(line, `"`); ok {
		if s.principals, rest, ok = strings.Cut(quoted, `"`); !ok {
			return fail("the quotation mark is not closed")
		}
	} else if i := strings.IndexAny(line, " \t"); i >= 0 {
		s.principals, rest = line[:i], line[i:]
	}
	rest = strings.TrimSpace(rest)
	if s.principals == "" || rest == "" {
		return fail(`want "PRINCIPALS [OPTIONS] KEYTYPE KEY"`)
	}
	key, _, options, _, err := ssh.ParseAuthorizedKey([]byte(rest))
	if err != nil {
		return fail("no public key is found in it: want \"PRINCIPALS [OPTIONS] KEYTYPE KEY\"")
	}
	if _, ok := key.(*ssh.Certificate); ok {
		return fail("it holds a certificate; write the key of its authority, with the option cert-authority")
	}
	if err := strong(key); err != nil {
		return fail("%w", err)
	}
	seen := map[string]bool{}
	for _, o := range options {
		name, value, given := strings.Cut(o, "=")
		name = strings.ToLower(name)
		value = strings.Trim(value, `"`)
		if seen[name] {
			return fail("the option %s is there twice", name)
		}
		seen[name] = true
		switch {
		case name == "cert-authority" && !given:
			authority = true
		case name == "namespaces" && value != "":
			s.namespaces = value
		case name == "valid-after" && given:
			s.after, err = signerTime(value)
		case name == "valid-before" && given:
			s.before, err = signerTime(value)
		default:
			return fail("the option %.40q is not understood", o)
		}
		if err != nil {
			return fail("%s: %w", name, err)
		}
	}
	if !s.after.IsZero() && !s.before.IsZero() && !s.after.Before(s.before) {
		return fail("valid-after is not before valid-before")
	}
	return s, key, authority, nil
}

// signerTime reads YYYYMMDD, YYYYMMDDHHMM or YYYYMMDDHHMMSS: of the time zone of this
// machine, or of UTC with a Z at the end.
func signerTime(text string) (time.Time, error) {
	digits, utc := strings.CutSuffix(text, "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) != len(digits) {
			continue
		}
		if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%.40q is no time: want YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z]", text)
}

// strong refuses keys that may be forged.
func strong(key ssh.PublicKey) error {
	switch key.Type() {
	case ssh.InsecureKeyAlgoDSA:
		return errors.New("keys of the type ssh-dss are not trusted")
	case ssh.KeyAlgoRSA:
		c, ok := key.(ssh.CryptoPublicKey)
		if !ok {
			return nil
		}
		if k, ok := c.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < leastRSA {
			return fmt.Errorf("an RSA key of %d bits is not trusted: %d are the least", k.N.BitLen(), leastRSA)
		}
	}
	return nil
}

// check verifies an SSH signature: PROTOCOL.sshsig of OpenSSH. As with Git it is the
// key that counts. Whose address the commit carries is not compared with the
// principals: anybody may write any address there.
func (l signers) check(s signed, when occasion) *rejection {
	sig, err := sshsig.Unarmor(s.signature)
	if err != nil {
		return reject(ReasonBadSignature, "has an SSH signature that cannot be read (%s)", oneLine(err.Error()))
	}
	name := ssh.FingerprintSHA256(sig.PublicKey)
	if sig.Namespace != namespace {
		return reject(ReasonBadSignature, "has an SSH signature that was made for %s, not for git", oneLine(fmt.Sprintf("%q", sig.Namespace)))
	}
	if err := sshsig.Verify(bytes.NewReader(s.payload), sig, sig.PublicKey, sig.HashAlgorithm, namespace); err != nil {
		return reject(ReasonBadSignature, "has an SSH signature that does not match its content; the key is said to be %s", name)
	}
	var why *rejection
	cert, certified := sig.PublicKey.(*ssh.Certificate)
	lines := l.keys[string(sig.PublicKey.Marshal())]
	if certified {
		lines = l.authorities[string(cert.SignatureKey.Marshal())]
	}
	for _, line := range lines {
		r := line.allows(name, when)
		if r == nil && certified {
			r = line.certifies(cert, when)
		}
		if r == nil {
			return nil
		}
		why = r
	}
	switch {
	case why != nil:
		return why
	case certified:
		return reject(ReasonUnknownKey, "is signed with an SSH certificate of the authority %s, which is not among the allowed signers", ssh.FingerprintSHA256(cert.SignatureKey))
	default:
		return reject(ReasonUnknownKey, "is signed by the SSH key %s, which is not among the allowed signers", name)
	}
}

// allows holds a signature against the options of a line.
func (s signer) allows(key string, when occasion) *rejection {
	switch {
	case s.namespaces != "" && !matches(s.namespaces, namespace):
		return reject(ReasonUnknownKey, "is signed by the SSH key %s, which line %d of the allowed signers trusts for %s only, not for git", key, s.line, oneLine(s.namespaces))
	case when.made.Before(s.after):
		return reject(ReasonExpired, "is signed by the SSH key %s, which is valid only after its date (line %d of the allowed signers)", key, s.line)
	case !when.now.IsZero() && when.now.Before(s.after):
		return reject(ReasonExpired, "is new and signed by the SSH key %s, which is not valid yet (line %d of the allowed signers)", key, s.line)
	case s.before.IsZero():
		return nil
	case when.made.After(s.before):
		return reject(ReasonExpired, "is signed by the SSH key %s, which was valid only before its date (line %d of the allowed signers)", key, s.line)
	case when.now.After(s.before):
		return reject(ReasonExpired, "is new and signed by the SSH key %s, which is not valid any more (line %d of the allowed signers)", key, s.line)
	}
	return nil
}

// certifies holds a certificate against the line of its authority. One of the
// certificate's principals must match those of the line.
func (s signer) certifies(cert *ssh.Certificate, when occasion) *rejection {
	bad := func(err error) *rejection {
		return reject(ReasonUnknownKey, "is signed with an SSH certificate that line %d of the allowed signers does not cover: %s", s.line, oneLine(err.Error()))
	}
	if cert.CertType != ssh.UserCert {
		return bad(errors.New("it is not a user's"))
	}
	if err := strong(cert.Key); err != nil {
		return bad(err)
	}
	for _, p := range cert.ValidPrincipals {
		if !matches(s.principals, p) {
			continue
		}
		checker := ssh.CertChecker{Clock: func() time.Time { return when.made }}
		if err := checker.CheckCert(p, cert); err != nil {
			if strings.Contains(err.Error(), "expired") || strings.Contains(err.Error(), "not yet valid") {
				return reject(ReasonExpired, "is signed with an SSH certificate that was not valid at its date")
			}
			return bad(err)
		}
		now := when.now.Unix()
		if !when.now.IsZero() && (now < 0 || uint64(now) < cert.ValidAfter) {
			return reject(ReasonExpired, "is new and signed with an SSH certificate that is not valid yet")
		}
		if !when.now.IsZero() && cert.ValidBefore != ssh.CertTimeInfinity && (now < 0 || uint64(now) >= cert.ValidBefore) {
			return reject(ReasonExpired, "is new and signed with an SSH certificate that is not valid any more")
		}
		return nil
	}
	return bad(errors.New("its principals are others"))
}

// matches holds a name against a pattern list of ssh_config(5): patterns with * and ?,
// separated by commas; one that begins with ! and matches refuses.
func matches(list, name string) bool {
	found := false
	for p := range strings.SplitSeq(list, ",") {
		p, negated := strings.CutPrefix(strings.TrimSpace(p), "!")
		if !glob(p, name) {
			continue
		}
		if negated {
			return false
		}
		found = true
	}
	return found
}

// glob matches * and ?, and takes everything else as it is.
func glob(pattern, name string) bool {
	// path.Match knows more than these two, and keeps * within one part of a path.
	const slash = "\x00"
	escape := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `/`, slash)
	ok, err := path.Match(escape.Replace(pattern), strings.ReplaceAll(name, "/", slash))
	return err == nil && ok
}
