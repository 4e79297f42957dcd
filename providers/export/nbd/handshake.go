package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

var (
	// errGoodbye ends a handshake that the client ended in an orderly way.
	errGoodbye = errors.New("the client left")
	errHostile = errors.New("protocol violation")
)

// handshake does "Fixed newstyle negotiation" up to the transmission phase. When
// it gives no error the client is attached, and the export's Detached is due.
//
// Every answer goes out in one write: with TCP_NODELAY each write is a packet.
func (c *conn) handshake(ctx context.Context) (Export, error) {
	deadline := time.Now().Add(c.srv.limits.Handshake)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	if err := c.nc.SetDeadline(deadline); err != nil {
		return Export{}, err
	}
	if _, err := c.nc.Write(appendGreeting(nil)); err != nil {
		return Export{}, err
	}
	var b [optionSize]byte
	if err := c.in.read(b[:4]); err != nil {
		return Export{}, ended(err)
	}
	flags := binary.BigEndian.Uint32(b[:])
	if unknown := flags &^ (clientFixedNewstyle | clientNoZeroes); unknown != 0 {
		// "Client flags": the server MUST drop the connection.
		return Export{}, fmt.Errorf("%w: unknown client flags %#x", errHostile, unknown)
	}
	for range maxOptions {
		if err := c.in.read(b[:]); err != nil {
			return Export{}, ended(err)
		}
		opt := parseOption(b[:])
		if opt.OptionMagic != protocol.NEGOTIATION_MAGIC_OPTION {
			return Export{}, fmt.Errorf("%w: option magic %#x", errHostile, opt.OptionMagic)
		}
		if opt.ID == optExportName {
			return c.exportName(ctx, opt.Length, flags)
		}
		if flags&clientFixedNewstyle == 0 {
			// "Newstyle negotiation": EXPORT_NAME is the only option there.
			return Export{}, fmt.Errorf("%w: option %d without fixed newstyle", errHostile, opt.ID)
		}
		data, tooBig, err := c.optionData(opt.Length)
		if err != nil {
			return Export{}, err
		}
		exp, attached, err := c.option(ctx, opt.ID, data, tooBig)
		if attached || err != nil {
			return exp, err
		}
	}
	return Export{}, fmt.Errorf("%w: more than %d options", errHostile, maxOptions)
}

// optionData reads what an option carries. More than any known option needs is
// skipped, so that the client can be told; much more ends the connection.
func (c *conn) optionData(n uint32) (data []byte, tooBig bool, err error) {
	switch {
	case n > maxOptionSkipped:
		return nil, false, fmt.Errorf("%w: %d bytes of option data", errHostile, n)
	case n > maxOptionKept:
		return nil, true, c.in.discard(int(n))
	}
	data = make([]byte, n)
	return data, false, c.in.read(data)
}

// option answers every option but EXPORT_NAME. attached means that the
// transmission phase begins.
func (c *conn) option(ctx context.Context, id uint32, data []byte, tooBig bool) (exp Export, attached bool, err error) {
	if id == protocol.NEGOTIATION_ID_OPTION_ABORT {
		// The client may be gone already, which is fine ("NBD_OPT_ABORT").
		c.nc.Write(appendOptionReply(nil, id, protocol.NEGOTIATION_TYPE_REPLY_ACK))
		return Export{}, false, errGoodbye
	}
	if id == optStartTLS {
		return Export{}, false, c.startTLS(ctx, tooBig || len(data) > 0)
	}
	var reply []byte
	switch {
	case c.wantsTLS(): // "FORCEDTLS mode"
		reply = appendOptionReply(nil, id, repErrTLSRequired, []byte("this server speaks TLS only"))
	case tooBig && known(id):
		if id == optSetMeta {
			c.allocation = nil // a SET that fails is one, too; see meta
		}
		reply = appendOptionReply(nil, id, repErrTooBig, []byte("more than a name and what can be asked about it"))
	case id == protocol.NEGOTIATION_ID_OPTION_GO:
		q, ok := parseInfoRequest(data)
		if ok {
			return c.goOption(ctx, q)
		}
		reply = doNotAddUp(id)
	default:
		reply = c.inform(ctx, id, data)
	}
	_, err = c.nc.Write(reply)
	return Export{}, false, err
}

// inform answers the options that neither attach nor end anything.
func (c *conn) inform(ctx context.Context, id uint32, data []byte) []byte {
	switch id {
	case protocol.NEGOTIATION_ID_OPTION_LIST:
		if len(data) > 0 {
			return appendOptionReply(nil, id, repErrInvalid, []byte("LIST takes no data"))
		}
		return c.list(ctx)
	case protocol.NEGOTIATION_ID_OPTION_INFO:
		q, ok := parseInfoRequest(data)
		if !ok {
			return doNotAddUp(id)
		}
		return c.info(ctx, q)
	case optStructuredReply, optExtendedHeaders:
		return c.chooseForm(id, len(data) > 0)
	case optListMeta, optSetMeta:
		return c.meta(ctx, id, data)
	}
	return appendOptionReply(nil, id, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNSUPPORTED) // "NBD_REP_ERR_UNSUP"
}

// known reports whether an option may carry data, or is told apart from those
// nobody knows although it may not.
func known(id uint32) bool {
	switch id {
	case protocol.NEGOTIATION_ID_OPTION_LIST, protocol.NEGOTIATION_ID_OPTION_INFO, protocol.NEGOTIATION_ID_OPTION_GO,
		optStructuredReply, optExtendedHeaders, optListMeta, optSetMeta:
		return true
	}
	return false
}

func doNotAddUp(id uint32) []byte {
	return appendOptionReply(nil, id, repErrInvalid, []byte("the lengths inside the option do not add up"))
}

// chooseForm is NBD_OPT_STRUCTURED_REPLY and NBD_OPT_EXTENDED_HEADERS. What was
// negotiated cannot be taken back.
func (c *conn) chooseForm(id uint32, hasData bool) []byte {
	want := structured
	if id == optExtendedHeaders {
		want = extended
	}
	switch {
	case hasData:
		return appendOptionReply(nil, id, repErrInvalid, []byte("the option takes no data"))
	case want < c.form:
		return appendOptionReply(nil, id, repErrExtHeaderReqd, []byte("extended headers were negotiated"))
	case want == c.form:
		return appendOptionReply(nil, id, repErrInvalid, []byte("negotiated already"))
	}
	c.form = want
	return appendOptionReply(nil, id, protocol.NEGOTIATION_TYPE_REPLY_ACK)
}

// exportName is NBD_OPT_EXPORT_NAME: no error can be said, so the connection is
// closed instead.
func (c *conn) exportName(ctx context.Context, n uint32, flags uint32) (Export, error) {
	if c.wantsTLS() {
		return Export{}, fmt.Errorf("%w: EXPORT_NAME in the clear", errHostile)
	}
	if n > maxString {
		return Export{}, fmt.Errorf("%w: an export name of %d bytes", errHostile, n)
	}
	name := make([]byte, n)
	if err := c.in.read(name); err != nil {
		return Export{}, err
	}
	exp, err := c.open(ctx, string(name))
	if err != nil {
		c.tell(ctx, string(name), err)
		return Export{}, err
	}
	reply := binary.BigEndian.AppendUint64(nil, uint64(exp.Size))
	reply = binary.BigEndian.AppendUint16(reply, exp.flags(c.form))
	if flags&clientNoZeroes == 0 {
		reply = append(reply, make([]byte, 124)...)
	}
	return exp, c.begin(exp, string(name), reply)
}

// open attaches, and checks what the handler gave.
func (c *conn) open(ctx context.Context, name string) (Export, error) {
	peer := c.peer()
	peer.Drop = c.drop
	exp, err := c.srv.handler.Open(ctx, peer, name)
	if err != nil {
		return Export{}, err
	}
	if _, ok := exp.Backend.(Zeroer); exp.Zeroes && !ok || exp.Size < 0 || exp.Backend == nil {
		err := fmt.Errorf("nbd: export %q is not what it says", exp.Name)
		c.abandon(exp, err)
		return Export{}, err
	}
	return exp, nil
}

// peer is the client as one that does not attach.
func (c *conn) peer() Peer {
	_, local := c.raw.(*net.UnixConn)
	return Peer{Remote: c.remote, Local: local, TLS: c.tls}
}

// begin sends the answer that makes the transmission phase begin. When that fails
// the export is detached. name is what the client called it.
func (c *conn) begin(exp Export, name string, reply []byte) error {
	if c.allocation != nil && *c.allocation != name {
		c.allocation = nil // selected for another export: "NBD_OPT_SET_META_CONTEXT"
	}
	c.attached()
	_, err := c.nc.Write(reply)
	if err == nil {
		err = c.nc.SetDeadline(time.Time{})
	}
	if err != nil {
		c.abandon(exp, err)
		return err
	}
	if exp.Attached != nil {
		exp.Attached()
	}
	return nil
}

func (c *conn) abandon(exp Export, err error) {
	if exp.Detached != nil {
		exp.Detached(Stats{Err: err})
	}
}

// ended turns a close between two messages into errGoodbye: scanners, and probes
// of load balancers, do that.
func ended(err error) error {
	if errors.Is(err, io.EOF) {
		return errGoodbye
	}
	return err
}
