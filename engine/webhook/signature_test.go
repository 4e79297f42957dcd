package webhook

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
)

// FuzzSignatures reads headers as strangers may send them: what is read is a digest,
// which gives the same text again, and nothing opens without the secret.
func FuzzSignatures(f *testing.F) {
	f.Add("sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "token", []byte("body"))
	f.Add("sha256=", "v1, v1a,x v2,y", "", []byte(nil))
	f.Add("757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17", strings.Repeat("v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA= ", 50), "\x00", []byte("\xff"))
	f.Fuzz(func(t *testing.T, sum, standard, token string, body []byte) {
		if got, ok := parseHex(sum, "sha256="); ok && "sha256="+hex.EncodeToString(got) != strings.ToLower(sum) {
			t.Errorf("%q is read as %x", sum, got)
		}
		list := parseStandard(standard)
		if len(list) > maxSignatures {
			t.Errorf("%d signatures", len(list))
		}
		for _, got := range list {
			if !strings.Contains(standard, "v1,"+base64.StdEncoding.EncodeToString(got)[:40]) && !strings.ContainsAny(standard, "\r\n") {
				t.Errorf("%q is read as %x", standard, got)
			}
		}
		h := http.Header{}
		h.Set("X-Hub-Signature-256", sum)
		h.Set("X-Forgejo-Signature", sum)
		h.Set("Webhook-Signature", standard)
		h.Set("X-Gitlab-Token", token)
		p := proofs(h, []byte("whsec_nobody knows this one"))
		if err := p.read(bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if forge, ok := p.good(); ok {
			t.Errorf("forged as %s: %q %q %q", forge, sum, standard, token)
		}
	})
}
