package source

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// maxAdvertised bounds, in bytes, the list of refs that a server sends: some 800,000.
const maxAdvertised = 64 << 20

// boundTransports has the library read no longer list of refs from an HTTP server than
// maxAdvertised. It keeps its transports in a map of its own, for the whole process, so
// this is done once and is the same for everybody.
var boundTransports = sync.OnceFunc(func() {
	c := githttp.NewClient(&http.Client{Transport: boundLists{http.DefaultTransport}})
	client.InstallProtocol("http", c)
	client.InstallProtocol("https", c)
})

// boundLists is a transport whose answers to a question for refs end.
type boundLists struct{ http.RoundTripper }

func (b boundLists) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/info/refs") {
		resp.Body = &boundBody{ReadCloser: resp.Body, left: maxAdvertised}
	}
	return resp, err
}

// boundBody is a body that fails when it has given all that it may.
type boundBody struct {
	io.ReadCloser
	left int64
}

func (b *boundBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: the list of refs has more than %d bytes", ErrLimit, maxAdvertised)
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
