package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/format/pktline"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/transport"
	gittransport "github.com/go-git/go-git/v5/plumbing/transport/git"
)

// gitProto fetches over git:// (gitprotocol-pack(5)). The library's own connects
// without a deadline, and reads a list of refs that never ends into memory.
type gitProto struct{}

func (gitProto) NewUploadPackSession(ep *transport.Endpoint, auth transport.AuthMethod) (transport.UploadPackSession, error) {
	if auth != nil {
		return nil, transport.ErrInvalidAuthMethod
	}
	return &gitSession{to: ep}, nil
}

func (gitProto) NewReceivePackSession(*transport.Endpoint, transport.AuthMethod) (transport.ReceivePackSession, error) {
	return nil, errors.New("nothing is pushed over git://")
}

// gitSession is one conversation. It connects when it is asked for the refs. One
// goroutine at a time may use it.
type gitSession struct {
	to    *transport.Endpoint
	conn  net.Conn // nil before
	refs  *packp.AdvRefs
	asked bool // for a pack
	stops []func() bool
}

// lingering is how long a server is given to take that the conversation is over.
const lingering = time.Second

func (s *gitSession) AdvertisedReferences() (*packp.AdvRefs, error) {
	return s.AdvertisedReferencesContext(context.Background())
}

func (s *gitSession) AdvertisedReferencesContext(ctx context.Context) (*packp.AdvRefs, error) {
	if s.refs != nil {
		return s.refs, nil
	}
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	refs := packp.NewAdvRefs()
	if err := refs.Decode(&boundList{s.conn, maxAdvertised}); err != nil {
		var said *pktline.ErrorLine
		switch {
		case errors.Is(err, packp.ErrEmptyAdvRefs):
			return nil, transport.ErrEmptyRemoteRepository
		case errors.As(err, &said) && (strings.Contains(said.Text, "access denied") || strings.Contains(said.Text, "no such repository")):
			return nil, transport.ErrRepositoryNotFound // as git daemon has it
		case errors.Is(err, packp.ErrEmptyInput):
			return nil, fmt.Errorf("the server ended the connection without an answer: %w", io.ErrUnexpectedEOF)
		}
		return nil, err
	}
	if refs.IsEmpty() {
		return nil, transport.ErrEmptyRemoteRepository // it has capabilities alone
	}
	transport.FilterUnsupportedCapabilities(refs.Capabilities)
	s.refs = refs
	return refs, nil
}

// connect says to the server what is wanted. From here on the end of ctx ends the
// connection.
func (s *gitSession) connect(ctx context.Context) error {
	port := s.to.Port
	if port <= 0 {
		port = gittransport.DefaultPort
	}
	address := net.JoinHostPort(s.to.Host, strconv.Itoa(port))
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	s.conn = conn
	s.endsWith(ctx)
	host := s.to.Host
	if port != gittransport.DefaultPort {
		host = address
	}
	return (&packp.GitProtoRequest{RequestCommand: transport.UploadPackServiceName, Pathname: s.to.Path, Host: host}).Encode(conn)
}

func (s *gitSession) endsWith(ctx context.Context) {
	conn := s.conn
	s.stops = append(s.stops, context.AfterFunc(ctx, func() { _ = conn.Close() }))
}

// UploadPack asks for a pack. The answer is read from the connection, which is closed
// with it.
func (s *gitSession) UploadPack(ctx context.Context, req *packp.UploadPackRequest) (*packp.UploadPackResponse, error) {
	if req.IsEmpty() {
		return nil, transport.ErrEmptyUploadPackRequest
	}
	if err := req.Validate(); err != nil {
		return nil, err
	}
	if _, err := s.AdvertisedReferencesContext(ctx); err != nil {
		return nil, err
	}
	s.endsWith(ctx)
	s.asked = true
	if err := req.UploadRequest.Encode(s.conn); err != nil {
		return nil, fmt.Errorf("what is wanted: %w", err)
	}
	if err := req.UploadHaves.Encode(s.conn, true); err != nil {
		return nil, fmt.Errorf("what is there: %w", err)
	}
	if err := pktline.NewEncoder(s.conn).Encodef("done\n"); err != nil {
		return nil, err
	}
	answer := packp.NewUploadPackResponse(req)
	if err := answer.Decode(boundBody{newBoundAcks(s.conn), s}); err != nil {
		return nil, fmt.Errorf("the answer: %w", err)
	}
	return answer, nil
}

// Close ends the conversation. Closing it again does nothing.
func (s *gitSession) Close() error {
	for _, stop := range s.stops {
		stop()
	}
	s.stops = nil
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn = nil
	if s.refs != nil && !s.asked {
		// "Nothing is wanted": without it a server complains of a client that vanished.
		_ = conn.SetWriteDeadline(time.Now().Add(lingering))
		_, _ = conn.Write(pktline.FlushPkt)
	}
	if err := conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
