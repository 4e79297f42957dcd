package wire

import (
	"cmp"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

// Fetch is one file that a machine asked for, by whichever protocol.
type Fetch struct {
	At, End  time.Time // of the request, and of its last byte or refusal
	MAC      provider.MAC
	Protocol string // "tftp" or "http"
	Asked    string // as the client spells it
	Name     string // without leading slashes, doubled slashes, escapes and query
	// Answered says that the server said something; Found, that there is such a file.
	Answered, Found bool

	Bytes  int64  // delivered
	Digest string // "sha256:…" of these bytes; of an error's text when not found
	// Whole says that all of the file came.
	Whole bool
}

// tftpRejects is the error code that ends a transfer whose options were refused (RFC
// 2347): how EDK2 ends one that it began only to learn the size.
const tftpRejects = "8 "

// Fetches lists what was asked for over TFTP and HTTP, in the order of asking. Left
// out are requests that look at a file and do not fetch it: a TFTP transfer that the
// client refuses after it was told the options, and every HTTP method but GET.
func (t *Traffic) Fetches() []Fetch {
	var list []Fetch
	for _, x := range t.TFTP {
		if x.Refused && x.Bytes == 0 && strings.HasPrefix(x.Failure, tftpRejects) {
			continue
		}
		answered := x.Bytes > 0 || x.Complete || x.Granted != nil || x.Failure != "" && !x.Refused
		end := x.LastByte
		if end.IsZero() {
			end = x.End
		}
		list = append(list, Fetch{
			At: x.At, End: end, MAC: x.MAC, Protocol: "tftp", Asked: x.Name, Name: fileName(x.Name),
			Answered: answered, Found: answered && (x.Failure == "" || x.Refused), Bytes: x.Bytes, Digest: x.Digest, Whole: x.Complete,
		})
	}
	for _, h := range t.HTTP {
		if h.Method != http.MethodGet {
			continue
		}
		name := h.Target
		if u, err := url.ParseRequestURI(h.Target); err == nil {
			name = u.Path
		}
		list = append(list, Fetch{
			At: h.At, End: h.End, MAC: h.MAC, Protocol: "http", Asked: h.Target, Name: fileName(name),
			Answered: h.Status != 0, Found: h.Status/100 == 2, Bytes: h.Bytes, Digest: h.Digest, Whole: h.Status/100 == 2 && h.Complete,
		})
	}
	slices.SortStableFunc(list, func(a, b Fetch) int { return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Name, b.Name)) })
	return list
}

// fileName gives all spellings of one file that loaders use the same name.
func fileName(asked string) string {
	return strings.TrimPrefix(path.Clean("/"+asked), "/")
}
