package nbd

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"

	"github.com/pojntfx/go-nbd/pkg/backend"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// ErrUnknown and ErrForbidden are what a Handler returns for a name that does not
// exist, and for one that this client may not use. A client cannot tell them
// apart: both are NBD_REP_ERR_UNKNOWN, so that names cannot be probed.
var (
	ErrUnknown   = errors.New("no such export")
	ErrForbidden = errors.New("this client may not use the export")
	// ErrTLSRequired is what a Handler returns for an export that this client may
	// use, and only over TLS: NBD_REP_ERR_TLS_REQD. It tells the client that the
	// export exists, so who may not use it should get ErrForbidden all the same.
	ErrTLSRequired = errors.New("the export is served over TLS only")
)

// Handler says which exports there are, and for whom. Its methods are called from
// many goroutines. The context ends when the client's handshake may no longer go
// on: at the handshake's deadline, when the client is dropped, at shutdown.
//
// An error that is none of those above means that the export
// exists but cannot be served now; it is logged, and the client is told to try
// again later (NBD_REP_ERR_POLICY).
type Handler interface {
	// List gives the exports that the client may know of, in the order in which
	// it will see them (NBD_OPT_LIST).
	List(ctx context.Context, peer Peer) []Listed
	// Info describes an export without attaching to it (NBD_OPT_INFO,
	// NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT).
	Info(ctx context.Context, peer Peer, name string) (Info, error)
	// Open attaches the client (NBD_OPT_GO, NBD_OPT_EXPORT_NAME). The server
	// calls the export's Detached once for every Open that gave no error.
	Open(ctx context.Context, peer Peer, name string) (Export, error)
}

// Peer is a client.
type Peer struct {
	Remote netip.AddrPort // zero for a Unix socket
	Local  bool           // it is a program of this machine, at a Unix socket
	// TLS is nil in the clear. Otherwise the handshake is complete, and what it
	// asked of the client's certificate was checked. Read only.
	TLS *tls.ConnectionState
	// Drop disconnects the client: no request is begun after it returned, the
	// one in progress is finished, and then Detached is called. It does not wait
	// for that, and may be called at any time, from anywhere, again and again.
	// Nil for who is not attaching.
	Drop func()
}

// Listed is one line of NBD_OPT_LIST.
type Listed struct {
	Name        string
	Description string // for people; may be empty
}

// Info is what a client is told about an export. All clients of one export must
// be told the same while it is in use: a client that reconnects compares.
type Info struct {
	Name        string // canonical, NBD_INFO_NAME
	Description string // for people, NBD_INFO_DESCRIPTION; may be empty
	Size        int64  // bytes
	ReadOnly    bool
	// MultiConn says that a client may use several connections at once: a FLUSH
	// on one covers what was answered on all (NBD_FLAG_CAN_MULTI_CONN).
	MultiConn bool
	// Zeroes says that the backend is a Zeroer: TRIM and WRITE_ZEROES are offered.
	Zeroes bool
}

// flags gives the transmission flags ("Transmission flags") for a client of that
// form. DF goes with chunks. CACHE and FAST_ZERO are offered only with them too:
// a machine that holds its root over an upgrade of the server compares its flags,
// and it asks for no chunks.
func (i Info) flags(f form) uint16 {
	flags := i.simpleFlags()
	if f == simple {
		return flags
	}
	flags |= flagSendDF | flagSendCache
	if flags&flagSendWriteZeroes != 0 {
		flags |= flagSendFastZero
	}
	return flags
}

func (i Info) simpleFlags() uint16 {
	f := flagHasFlags
	if i.ReadOnly {
		f |= flagReadOnly
	} else {
		f |= flagSendFlush | flagSendFUA
		if i.Zeroes {
			f |= flagSendTrim | flagSendWriteZeroes
		}
	}
	if i.MultiConn {
		f |= protocol.NEGOTIATION_REPLY_FLAGS_CAN_MULTI_CONN
	}
	return f
}

// Export is an export that a client is attached to.
type Export struct {
	Info
	// Backend holds the bytes; it may be a Zeroer, RangeZeroer, Mapper, Cacher, Settled,
	// Lender, NowReader and WriteFetcher too. Its methods are called from several goroutines of each
	// connection: Sync, Cache, and READs of one that says which of them wait, beside
	// the others. One that is neither Lender nor NowReader is taken to never wait. The
	// server asks for nothing outside [0, Size), and never writes when ReadOnly. Sync
	// returns when every write that returned before it was called is on stable
	// storage. Errors reach the client as the errno they wrap; see errnoOf.
	Backend backend.Backend
	// Attached is called once the client was told that it is attached, before
	// its first request is read. May be nil.
	Attached func()
	// Detached is called when the connection is over and nothing of it touches
	// Backend any more. May be nil.
	Detached func(Stats)
}

// Stats counts what a connection did.
type Stats struct {
	Requests uint64
	Read     uint64 // bytes sent as payload
	Written  uint64 // bytes of payload written, answered or not
	// Err is why the connection ended; nil when the client said goodbye or just
	// closed it between two requests.
	Err error
}
