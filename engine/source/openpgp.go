package source

import (
	"bufio"
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// maxKeyrings bounds how many armored blocks one file holds.
const maxKeyrings = 10_000

// parseKeyring reads public keys: armored, in any number of blocks, or binary, as
// gpg --export writes them.
func parseKeyring(data []byte) (openpgp.EntityList, error) {
	var ring openpgp.EntityList
	switch {
	case len(data) >= 12 && string(data[8:12]) == "KBXf":
		return nil, errors.New("is GnuPG's own keybox; export the keys with: gpg --export --armor ADDRESS")
	case bytes.Contains(data, []byte("-----BEGIN PGP ")):
		r := bufio.NewReader(bytes.NewReader(data))
		for range maxKeyrings {
			block, err := armor.Decode(r)
			if errors.Is(err, io.EOF) {
				return usable(ring)
			}
			if err != nil {
				return nil, err
			}
			if block.Type != openpgp.PublicKeyType {
				return nil, fmt.Errorf("holds a block of the type %s; want public keys", oneLine(block.Type))
			}
			more, err := readRing(block.Body)
			if err != nil {
				return nil, err
			}
			ring = append(ring, more...)
		}
		return nil, fmt.Errorf("has more than %d blocks", maxKeyrings)
	default:
		ring, err := readRing(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return usable(ring)
	}
}

func readRing(r io.Reader) (ring openpgp.EntityList, err error) {
	defer func() { // of the library's, on bytes that make no sense
		if p := recover(); p != nil {
			ring, err = nil, fmt.Errorf("holds keys that cannot be read (%v)", p)
		}
	}()
	ring, err = openpgp.ReadKeyRing(r)
	if err == nil {
		_, err = io.Copy(io.Discard, r) // up to the end of an armored block
	}
	return ring, err
}

func usable(ring openpgp.EntityList) (openpgp.EntityList, error) {
	if len(ring) == 0 {
		return nil, errors.New("holds no OpenPGP key")
	}
	for _, e := range ring {
		if e.PrivateKey != nil {
			return nil, fmt.Errorf("holds the private key %X; export the public one with: gpg --export --armor", e.PrimaryKey.Fingerprint)
		}
	}
	return ring, nil
}

// strongHashes are those that a signature on a commit may use. MD5, SHA-1 and
// RIPEMD-160 may not: RFC 9580, Section 9.5.
var strongHashes = map[crypto.Hash]bool{
	crypto.SHA224: true, crypto.SHA256: true, crypto.SHA384: true, crypto.SHA512: true,
	crypto.SHA3_256: true, crypto.SHA3_512: true,
}

// checkPGP verifies an OpenPGP signature of version 4 (RFC 9580, Section 5.2), the one
// that is made over a file.
func checkPGP(ring openpgp.EntityList, s signed, when occasion) (why *rejection) {
	defer func() { // of the library's, on a hostile signature
		if p := recover(); p != nil {
			why = reject(ReasonBadSignature, "has an OpenPGP signature that cannot be read")
		}
	}()
	sig, err := parsePGP(s.signature)
	if err != nil {
		return reject(ReasonBadSignature, "has an OpenPGP signature that %s", oneLine(err.Error()))
	}
	id := *sig.IssuerKeyId
	candidates := ring.KeysByIdUsage(id, packet.KeyFlagSign)
	if len(candidates) == 0 {
		if len(ring.KeysById(id)) > 0 {
			return reject(ReasonUnknownKey, "is signed by the OpenPGP key %016X, which is trusted but not made for signing", id)
		}
		return reject(ReasonUnknownKey, "is signed by the OpenPGP key %016X, which is not among the trusted ones", id)
	}
	why = reject(ReasonBadSignature, "has an OpenPGP signature that does not match its content; the key is said to be %016X", id)
	for _, key := range candidates {
		hash, err := sig.PrepareVerify()
		if err != nil {
			continue
		}
		hash.Write(s.payload)
		if key.PublicKey.VerifySignature(hash, sig) != nil {
			continue
		}
		// The same key may be in two files, and one of them know that it was revoked.
		if why = ofKey(key, sig, when); why != nil {
			return why
		}
	}
	return why
}

// parsePGP reads one signature and nothing else.
func parsePGP(armored []byte) (*packet.Signature, error) {
	block, err := armor.Decode(bytes.NewReader(armored))
	if err != nil {
		return nil, errors.New("is not armored as it should be")
	}
	if block.Type != openpgp.SignatureType && block.Type != "PGP MESSAGE" {
		return nil, fmt.Errorf("is armored as %s", block.Type)
	}
	packets := packet.NewOpaqueReader(io.LimitReader(block.Body, maxSignature))
	p, err := packets.Next()
	if err != nil {
		return nil, errors.New("is cut off")
	}
	const signatureTag, version = 2, 4
	switch {
	case p.Tag != signatureTag || len(p.Contents) < 4:
		return nil, errors.New("holds something else")
	case p.Contents[0] != version: // later ones give lengths that the library believes
		return nil, fmt.Errorf("has version %d; only version %d is supported", p.Contents[0], version)
	}
	if _, err := packets.Next(); !errors.Is(err, io.EOF) {
		return nil, errors.New("is not alone")
	}
	parsed, err := p.Parse()
	if err != nil {
		return nil, errors.New("cannot be read: " + err.Error())
	}
	sig, ok := parsed.(*packet.Signature)
	switch {
	case !ok:
		return nil, errors.New("holds something else")
	case sig.IssuerKeyId == nil:
		return nil, errors.New("does not name its key")
	case sig.SigType != packet.SigTypeBinary:
		return nil, errors.New("is not made over a file")
	case !strongHashes[sig.Hash]:
		return nil, fmt.Errorf("uses the hash %s, which can be forged; sign with SHA-256 or better", sig.Hash)
	}
	for _, n := range sig.Notations {
		if n.IsCritical {
			return nil, errors.New("carries a critical notation")
		}
	}
	return sig, nil
}

// ofKey says why a signature that matches does not count: revoked at any time, expired
// when it was made, or expired now and new.
func ofKey(key openpgp.Key, sig *packet.Signature, when occasion) *rejection {
	name := fmt.Sprintf("%X", key.PublicKey.Fingerprint)
	self, identity := key.Entity.PrimarySelfSignature()
	switch {
	case self == nil:
		return reject(ReasonUnknownKey, "is signed by the OpenPGP key %s, which has no valid name", name)
	case len(key.Entity.Revocations) > 0, len(key.Revocations) > 0, identity != nil && len(identity.Revocations) > 0:
		return reject(ReasonExpired, "is signed by the OpenPGP key %s, which was revoked", name)
	}
	if n, err := key.PublicKey.BitLength(); err == nil && n < leastRSA && isRSA(key.PublicKey.PubKeyAlgo) {
		return reject(ReasonBadSignature, "is signed by the OpenPGP key %s, an RSA key of %d bits; %d are the least", name, n, leastRSA)
	}
	if key.PublicKey.PubKeyAlgo == packet.PubKeyAlgoDSA {
		return reject(ReasonBadSignature, "is signed by the OpenPGP key %s, a DSA key, which is not trusted", name)
	}
	expired := func(at time.Time) bool {
		return key.Entity.PrimaryKey.KeyExpired(self, at) || key.PublicKey.KeyExpired(key.SelfSignature, at) || sig.SigExpired(at)
	}
	if expired(sig.CreationTime) {
		return reject(ReasonExpired, "is signed by the OpenPGP key %s, which was not valid then", name)
	}
	// A clock that is behind must not make every signature one of the future.
	if !when.now.IsZero() && when.now.After(sig.CreationTime) && expired(when.now) {
		return reject(ReasonExpired, "is new and signed by the OpenPGP key %s, which is not valid any more", name)
	}
	return nil
}

func isRSA(a packet.PublicKeyAlgorithm) bool {
	return a == packet.PubKeyAlgoRSA || a == packet.PubKeyAlgoRSASignOnly
}
