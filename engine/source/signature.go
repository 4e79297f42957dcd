package source

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// signed is an object of Git and the signature on it.
type signed struct {
	payload   []byte // what is signed: the object without the signature
	signature []byte // empty: there is none
}

const maxSignature = 64 << 10 // bytes

// Headers of a commit that hold its signature, see gitformat-signature(5). Both are
// left out of what is signed. The second is for repositories that have two hashes.
var signatureHeaders = [...][]byte{[]byte("gpgsig "), []byte("gpgsig-sha256 ")}

// splitCommit takes the signature out of the bytes of a commit, as Git does it: it is
// over the very bytes that are left, not over what a parser makes of them.
func splitCommit(raw []byte) (signed, error) {
	var out signed
	found := 0
	var into *[]byte // where a continued line of a header belongs
	var dropped []byte
	for rest := raw; ; {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line = rest[:i+1]
		}
		if len(line) == 0 || line[0] == '\n' { // the headers are over
			out.payload = append(out.payload, rest...)
			break
		}
		rest = rest[len(line):]
		switch {
		case line[0] == ' ' && into != nil:
			*into = append(*into, line[1:]...)
			continue
		case bytes.HasPrefix(line, signatureHeaders[0]):
			found++
			into = &out.signature
			*into = append(*into, line[len(signatureHeaders[0]):]...)
			continue
		case bytes.HasPrefix(line, signatureHeaders[1]):
			into = &dropped
			continue
		}
		into = nil
		out.payload = append(out.payload, line...)
	}
	switch {
	case found > 1:
		return out, errors.New("has more than one signature")
	case len(out.signature) > maxSignature:
		return out, fmt.Errorf("has a signature of %d bytes; %d are allowed", len(out.signature), maxSignature)
	}
	return out, nil
}

// signatureBegins are the lines with which a signature of each kind begins.
var signatureBegins = [...][]byte{
	[]byte("-----BEGIN SSH SIGNATURE-----"),
	[]byte("-----BEGIN PGP SIGNATURE-----"),
	[]byte("-----BEGIN PGP MESSAGE-----"),
	[]byte("-----BEGIN SIGNED MESSAGE-----"), // X.509, of gpgsm(1)
}

// splitTag takes the signature off the end of the bytes of a tag. As in Git the last
// line counts with which one could begin.
func splitTag(raw []byte) (signed, error) {
	at := -1
	for start := 0; start < len(raw); {
		for _, begin := range signatureBegins {
			if bytes.HasPrefix(raw[start:], begin) {
				at = start
			}
		}
		i := bytes.IndexByte(raw[start:], '\n')
		if i < 0 {
			break
		}
		start += i + 1
	}
	if at < 0 {
		return signed{payload: raw}, nil
	}
	if n := len(raw) - at; n > maxSignature {
		return signed{}, fmt.Errorf("has a signature of %d bytes; %d are allowed", n, maxSignature)
	}
	return signed{payload: raw[:at], signature: raw[at:]}, nil
}

// signedCommit reads a commit and its signature. What the signature covers and what
// is served must be the same whoever parses it.
func (o *objects) signedCommit(h plumbing.Hash) (signed, *object.Commit, error) {
	raw, err := o.read(plumbing.CommitObject, h, maxCommit)
	if err != nil {
		return signed{}, nil, err
	}
	whole := &object.Commit{}
	if err := whole.Decode(encoded(plumbing.CommitObject, raw)); err != nil {
		return signed{}, nil, malformed(plumbing.CommitObject, h, err)
	}
	sig, bad := splitCommit(raw)
	if bad != nil || len(sig.signature) == 0 {
		return sig, whole, badSignature(bad)
	}
	covered := &object.Commit{}
	if err := covered.Decode(encoded(plumbing.CommitObject, sig.payload)); err != nil {
		return sig, whole, badSignature(errors.New("cannot be read without its signature"))
	}
	if covered.TreeHash != whole.TreeHash || !slices.Equal(covered.ParentHashes, whole.ParentHashes) ||
		!sameSigned(covered.Author, whole.Author) || !sameSigned(covered.Committer, whole.Committer) || covered.Message != whole.Message {
		return sig, whole, badSignature(errors.New("has a signature that hides other headers"))
	}
	return sig, whole, nil
}

// sameSigned holds two lines of a header against each other. Two times of one time zone
// need not be equal to ==: each may have a Location of its own.
func sameSigned(a, b object.Signature) bool {
	_, da := a.When.Zone()
	_, db := b.When.Zone()
	return a.Name == b.Name && a.Email == b.Email && a.When.Equal(b.When) && da == db
}

// badSignature says that a commit is at fault, not the reading of it.
func badSignature(err error) error {
	if err == nil {
		return nil
	}
	return &rejection{ReasonBadSignature, err.Error()}
}
