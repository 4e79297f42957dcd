package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// SavedPlanFormat is the version of the form of a saved plan.
const SavedPlanFormat = 1

// MaxSavedPlan bounds what is read as a saved plan, in bytes: one for 100,000 hosts
// is smaller.
const MaxSavedPlan = 256 << 20

// Purposes of what the host key signs here.
const (
	signsPlan      = "saved plan v1"
	signsVariables = "variables v1"
)

// SavedPlan is a plan that is kept for later, bound to what it was made of and
// signed by the host that would apply it. Its file is the canonical form, to the
// byte; see Bytes.
type SavedPlan struct {
	FormatVersion int        `json:"format_version"`
	Plan          *plan.Plan `json:"plan"`
	Bound         Bound      `json:"bound"`
	Signature     Signature  `json:"signature"`
}

// Bound is what must be so still when a saved plan is applied.
type Bound struct {
	Revision       string `json:"revision"`
	Tip            string `json:"tip"` // of the tracked ref, when the plan was made
	BaseGeneration uint64 `json:"base_generation"`
	// Observed is the digest of what the plan was compared with; see observed.
	Observed string `json:"observed"`
	Server   string `json:"server"` // as in Config
	Env      string `json:"env"`
	// Variables is a digest of the values given to variables. It is made with the
	// host key, so that nobody finds a secret by guessing at it.
	Variables string `json:"variables"`
	// WorkTree says that the plan was made where a work tree held just this commit.
	// It is for the command line, which asks again before it applies.
	WorkTree bool `json:"work_tree"`
}

// Signature is by a host key, over the canonical bytes of all the rest.
type Signature struct {
	Key     string `json:"key"`     // the public half, as store.HostKey.Public gives it
	Ed25519 string `json:"ed25519"` // base64
}

// Bytes gives the canonical form: JSON with sorted keys, indented by two spaces, and
// a line end. The same saved plan is the same bytes.
func (s *SavedPlan) Bytes() ([]byte, error) { return canonical(s) }

// signed gives what the signature covers.
func (s *SavedPlan) signed() ([]byte, error) {
	return canonical(struct {
		FormatVersion int        `json:"format_version"`
		Plan          *plan.Plan `json:"plan"`
		Bound         Bound      `json:"bound"`
	}{s.FormatVersion, s.Plan, s.Bound})
}

func (s *SavedPlan) sign(key *store.HostKey) error {
	b, err := s.signed()
	if err != nil {
		return err
	}
	s.Signature = Signature{key.Public(), base64.StdEncoding.EncodeToString(key.Sign(signsPlan, b))}
	return nil
}

// verify says why key did not sign s; nil when it did.
func (s *SavedPlan) verify(key *store.HostKey) error {
	if s.Signature.Key != key.Public() {
		return errors.New("another host made it: a saved plan is only applied where it was planned")
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(s.Signature.Ed25519)
	if err != nil {
		return errForged
	}
	b, err := s.signed()
	if err != nil {
		return err
	}
	if !key.Verify(signsPlan, b, sig) {
		return errForged
	}
	return nil
}

var errForged = errors.New("its signature does not fit: the file was changed since this host wrote it")

// ReadSavedPlan reads what Bytes gave. Every other form of the same content is an
// error, so that no byte of a file can be changed unnoticed. The signature is looked
// at when it is applied.
func ReadSavedPlan(b []byte) (*SavedPlan, error) {
	if len(b) > MaxSavedPlan {
		return nil, fmt.Errorf("it has more than %d bytes", MaxSavedPlan)
	}
	var s SavedPlan
	if err := json.Unmarshal(b, &s); err != nil || s.Plan == nil {
		var p plan.Plan
		if json.Unmarshal(b, &p) == nil && p.FormatVersion != 0 && p.Changes != nil {
			return nil, errors.New("it is a plan to look at, without a signature: `dlreconcile plan --out FILE` writes one that can be applied")
		}
		return nil, errors.New("the file is not what `dlreconcile plan --out FILE` writes, or is not that any more")
	}
	if s.FormatVersion != SavedPlanFormat {
		return nil, fmt.Errorf("it is of format %d, and this program has format %d", s.FormatVersion, SavedPlanFormat)
	}
	if s.Plan.FormatVersion != plan.FormatVersion {
		return nil, fmt.Errorf("its plan is of format %d, and this program has format %d", s.Plan.FormatVersion, plan.FormatVersion)
	}
	again, err := s.Bytes()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, b) {
		return nil, errForged
	}
	return &s, nil
}

// canonical gives v as indented JSON with sorted keys and a line end. Numbers stay
// as they are spelled.
func canonical(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var generic any
	if err := dec.Decode(&generic); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one JSON value")
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err = enc.Encode(generic)
	return out.Bytes(), err
}
