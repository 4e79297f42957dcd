package source

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// FuzzOpenPGP feeds packets to the check of signatures: whatever they are, no panic,
// and nothing but the genuine one counts.
func FuzzOpenPGP(f *testing.F) {
	who, err := openpgp.NewEntity("a", "", "a@example.org", &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA})
	if err != nil {
		f.Fatal(err)
	}
	var genuine bytes.Buffer
	if err := openpgp.DetachSign(&genuine, who, strings.NewReader("payload"), nil); err != nil {
		f.Fatal(err)
	}
	f.Add(genuine.Bytes())
	f.Add([]byte{0xc2, 6, 6, 0, 27, 10, 0xff, 0xff})
	ring := openpgp.EntityList{who}
	f.Fuzz(func(t *testing.T, data []byte) {
		var text bytes.Buffer
		w, err := armor.Encode(&text, openpgp.SignatureType, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
		w.Close()
		if why := checkPGP(ring, signed{payload: []byte("another payload"), signature: text.Bytes()}, occasion{}); why == nil {
			t.Error("a signature on something else counts")
		}
		if why := checkPGP(ring, signed{payload: []byte("payload"), signature: text.Bytes()}, occasion{}); (why == nil) != bytes.Equal(data, genuine.Bytes()) && why != nil {
			t.Errorf("the genuine signature: %v", why)
		}
	})
}

func FuzzKeyring(f *testing.F) {
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nxjM=\n-----END PGP PUBLIC KEY BLOCK-----\n"))
	f.Add([]byte{0x99, 0, 3, 4, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		if ring, err := parseKeyring(data); err == nil && len(ring) == 0 {
			t.Error("no key and no error")
		}
	})
}
