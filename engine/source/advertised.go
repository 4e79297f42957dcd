package source

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/go-git/go-git/v5/plumbing/transport/client"
	githttp "github.com/go-git/go-git/v5/plumbing/transport/http"
)

// maxAdvertised bounds, in bytes, the list of refs that a server sends: some 500,000.
const maxAdvertised = 32 << 20

// maxAcks bounds, in bytes, what a server says it has in common before it sends a pack.
const maxAcks = 1 << 20

// boundTransports has the library read no longer list of refs from a server than
// maxAdvertised, and no more before a pack than maxAcks. It keeps its transports in a map
// of its own, for the whole process, so this is done once and is the same for everybody.
var boundTransports = sync.OnceFunc(func() {
	c := githttp.NewClient(&http.Client{Transport: boundAnswers{http.DefaultTransport}})
	client.InstallProtocol("http", c)
	client.InstallProtocol("https", c)
	client.InstallProtocol("git", gitProto{})
})

// boundAnswers is a transport whose answers end where this process would hold all of
// them.
type boundAnswers struct{ http.RoundTripper }

func (b boundAnswers) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	switch {
	case err != nil:
	case strings.HasSuffix(r.URL.Path, "/info/refs"):
		resp.Body = boundBody{&boundList{resp.Body, maxAdvertised}, resp.Body}
	case strings.HasSuffix(r.URL.Path, "/git-upload-pack"):
		resp.Body = boundBody{newBoundAcks(resp.Body), resp.Body}
	}
	return resp, err
}

type boundBody struct {
	io.Reader
	io.Closer
}

// boundList reads a list of refs, and fails when it has given all that it may.
type boundList struct {
	from io.Reader
	left int64
}

func (b *boundList) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("%w: the list of refs has more than %d MiB", ErrLimit, maxAdvertised>>20)
	}
	n, err := b.from.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// boundAcks reads the answer to a request for a pack. It fails when the lines before the
// pack, ACK and NAK, never end.
type boundAcks struct {
	from *bufio.Reader
	left int  // bytes that such lines may still have
	line int  // bytes that are left of this one
	over bool // what is no such line has begun
}

func newBoundAcks(r io.Reader) *boundAcks { return &boundAcks{from: bufio.NewReader(r), left: maxAcks} }

func (b *boundAcks) Read(p []byte) (int, error) {
	if !b.over && b.line == 0 {
		// A pkt-line: four hex digits count its bytes, themselves included. What Peek says
		// of an end or a failure, Read says again.
		head, _ := b.from.Peek(7)
		if b.line = ackLine(head); b.line == 0 {
			b.over = true
		} else if b.left -= b.line; b.left < 0 {
			return 0, fmt.Errorf("%w: the server says for more than %d MiB what it has in common, and sends no pack", ErrLimit, maxAcks>>20)
		}
	}
	if b.over {
		return b.from.Read(p)
	}
	n, err := b.from.Read(p[:min(len(p), b.line)])
	b.line -= n
	return n, err
}

// ackLine gives how many bytes the line has that begins with head; 0 when it is neither
// ACK nor NAK.
func ackLine(head []byte) int {
	if len(head) < 7 || string(head[4:7]) != "ACK" && string(head[4:7]) != "NAK" {
		return 0
	}
	n, err := strconv.ParseUint(string(head[:4]), 16, 16)
	if err != nil {
		return 0
	}
	return int(n)
}
