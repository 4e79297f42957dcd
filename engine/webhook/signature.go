package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"
)

// proof is one way in which a request says that its sender knows the secret.
type proof struct {
	forge string
	mac   hash.Hash // over the body; nil: it is decided already
	want  [][]byte  // one of these is what mac comes to
	known bool      // when mac is nil
}

type proofList []proof

// proofs finds what a request shows, in the forms that forges have:
//
//   - GitHub: X-Hub-Signature-256 is "sha256=" and the HMAC-SHA256 of the body in hex.
//     Gitea and Forgejo send it too.
//   - Gitea, Forgejo, Gogs: X-…-Signature is that HMAC in hex alone.
//   - GitLab: X-Gitlab-Token is the secret itself; or with a signing token the headers of
//     the Standard Webhooks specification, where webhook-signature is a list of "v1," and
//     the HMAC-SHA256 of "ID.TIMESTAMP.BODY" in base64, and the secret "whsec_" and the
//     key in base64. The time is not looked at: a request that comes late or twice has
//     the repo looked at, and a clock that is wrong keeps no push waiting.
func proofs(h http.Header, secret []byte) proofList {
	var list proofList
	for _, form := range []struct{ forge, header, prefix string }{
		{"github", "X-Hub-Signature-256", "sha256="},
		{"gitea", "X-Gitea-Signature", ""},
		{"forgejo", "X-Forgejo-Signature", ""},
		{"gogs", "X-Gogs-Signature", ""},
	} {
		if sum, ok := parseHex(h.Get(form.header), form.prefix); ok {
			list = append(list, proof{forge: form.forge, mac: hmac.New(sha256.New, secret), want: [][]byte{sum}})
		}
	}
	if token := h.Get("X-Gitlab-Token"); token != "" {
		have, want := sha256.Sum256([]byte(token)), sha256.Sum256(secret) // of one length, whatever theirs is
		list = append(list, proof{forge: "gitlab", known: subtle.ConstantTimeCompare(have[:], want[:]) == 1})
	}
	if sums := parseStandard(h.Get("Webhook-Signature")); len(sums) > 0 {
		mac := hmac.New(sha256.New, standardKey(secret))
		mac.Write([]byte(h.Get("Webhook-Id") + "." + h.Get("Webhook-Timestamp") + "."))
		list = append(list, proof{forge: "gitlab", mac: mac, want: sums})
	}
	return list
}

// parseHex reads a signature in hex behind a prefix.
func parseHex(text, prefix string) ([]byte, bool) {
	text, ok := strings.CutPrefix(text, prefix)
	if !ok || len(text) != hex.EncodedLen(sha256.Size) {
		return nil, false
	}
	sum, err := hex.DecodeString(text)
	return sum, err == nil
}

// maxSignatures bounds the list in one header: a forge that changes its key sends two.
const maxSignatures = 8

// parseStandard reads the signatures of version 1 in a list with spaces between.
func parseStandard(text string) [][]byte {
	var sums [][]byte
	for one := range strings.FieldsSeq(text) {
		body, ok := strings.CutPrefix(one, "v1,")
		if !ok || len(sums) == maxSignatures {
			continue
		}
		if sum, err := base64.StdEncoding.DecodeString(body); err == nil && len(sum) == sha256.Size {
			sums = append(sums, sum)
		}
	}
	return sums
}

// standardKey is the key in a secret.
func standardKey(secret []byte) []byte {
	text, ok := bytes.CutPrefix(secret, []byte("whsec_"))
	if !ok {
		return secret
	}
	key, err := base64.StdEncoding.DecodeString(string(text))
	if err != nil {
		return secret
	}
	return key
}

// read passes the body, once, to all that are computed over it. Nothing of it is kept.
func (l proofList) read(body io.Reader) error {
	var to []io.Writer
	for _, p := range l {
		if p.mac != nil {
			to = append(to, p.mac)
		}
	}
	_, err := io.Copy(io.MultiWriter(to...), body)
	return err
}

// good gives the forge whose form one of the proofs has that holds.
func (l proofList) good() (forge string, ok bool) {
	for _, p := range l {
		if p.mac == nil {
			if p.known {
				return p.forge, true
			}
			continue
		}
		have := p.mac.Sum(nil)
		for _, want := range p.want {
			if hmac.Equal(have, want) {
				return p.forge, true
			}
		}
	}
	return "", false
}
