package nbd

import (
	"context"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// infoRequest is the data of NBD_OPT_INFO and NBD_OPT_GO.
type infoRequest struct {
	name  string
	kinds []uint16 // NBD_INFO_*; unknown ones are ignored
}

// parseInfoRequest reads: 32 bits length of name; name; 16 bits number of kinds;
// 16 bits for each. Anything else is not ok.
func parseInfoRequest(b []byte) (infoRequest, bool) {
	if len(b) < 4+2 {
		return infoRequest{}, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if n > maxString || int(n) > len(b)-2 {
		return infoRequest{}, false
	}
	q := infoRequest{name: string(b[:n])}
	b = b[n:]
	count := int(binary.BigEndian.Uint16(b))
	b = b[2:]
	if len(b) != 2*count {
		return infoRequest{}, false
	}
	for ; len(b) > 0; b = b[2:] {
		q.kinds = append(q.kinds, binary.BigEndian.Uint16(b))
	}
	return q, true
}

// list is NBD_OPT_LIST.
func (c *conn) list(ctx context.Context) []byte {
	const opt = protocol.NEGOTIATION_ID_OPTION_LIST
	var reply []byte
	for _, e := range c.srv.handler.List(ctx, c.peer()) {
		n := binary.BigEndian.AppendUint32(nil, uint32(len(e.Name)))
		reply = appendOptionReply(reply, opt, protocol.NEGOTIATION_TYPE_REPLY_SERVER, n, []byte(e.Name), []byte(e.Description))
	}
	return appendOptionReply(reply, opt, protocol.NEGOTIATION_TYPE_REPLY_ACK)
}

// info is NBD_OPT_INFO: what GO would say, without attaching.
func (c *conn) info(ctx context.Context, q infoRequest) []byte {
	const opt = protocol.NEGOTIATION_ID_OPTION_INFO
	i, err := c.srv.handler.Info(ctx, c.peer(), q.name)
	if err != nil {
		return c.refusal(ctx, opt, q.name, err)
	}
	return c.appendInfo(opt, i, q.kinds)
}

// goOption is NBD_OPT_GO.
func (c *conn) goOption(ctx context.Context, q infoRequest) (Export, bool, error) {
	const opt = protocol.NEGOTIATION_ID_OPTION_GO
	exp, err := c.open(ctx, q.name)
	if err != nil {
		_, werr := c.nc.Write(c.refusal(ctx, opt, q.name, err))
		return Export{}, false, werr
	}
	if err := c.begin(exp, q.name, c.appendInfo(opt, exp.Info, q.kinds)); err != nil {
		return Export{}, false, err
	}
	return exp, true, nil
}

// refusal is the error reply to an option that names an export. The client may try
// another name.
func (c *conn) refusal(ctx context.Context, opt uint32, name string, err error) []byte {
	c.tell(ctx, name, err)
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrForbidden):
		return appendOptionReply(nil, opt, protocol.NEGOTIATION_TYPE_REPLY_ERR_UNKNOWN, []byte("no such export for this client"))
	case c.wantsTLSFor(err):
		return appendOptionReply(nil, opt, repErrTLSRequired, []byte("the export is served over TLS only"))
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return appendOptionReply(nil, opt, repErrShutdown)
	}
	return appendOptionReply(nil, opt, repErrPolicy, []byte("cannot be served now"))
}

// wantsTLSFor reports whether an export needs TLS that the client can have: "NOTLS mode"
// must not say so.
func (c *conn) wantsTLSFor(err error) bool {
	return errors.Is(err, ErrTLSRequired) && c.secure != nil && c.tls == nil
}

// tell logs why an export cannot be served, unless that is the client's affair.
func (c *conn) tell(ctx context.Context, name string, err error) {
	switch {
	case errors.Is(err, ErrUnknown), errors.Is(err, ErrForbidden), c.wantsTLSFor(err), ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return
	}
	c.complain("nbd: an export cannot be served", "export", name, "err", err)
}

// appendInfo gives the replies that end INFO and GO well: NBD_INFO_EXPORT always,
// the others when they were asked for, each once.
func (c *conn) appendInfo(opt uint32, i Info, kinds []uint16) []byte {
	const typ = protocol.NEGOTIATION_TYPE_REPLY_INFO
	kind := func(k uint16) []byte { return binary.BigEndian.AppendUint16(nil, k) }

	d := binary.BigEndian.AppendUint64(kind(protocol.NEGOTIATION_TYPE_INFO_EXPORT), uint64(i.Size))
	b := appendOptionReply(nil, opt, typ, binary.BigEndian.AppendUint16(d, i.flags(c.form)))
	if k := protocol.NEGOTIATION_TYPE_INFO_NAME; slices.Contains(kinds, k) {
		b = appendOptionReply(b, opt, typ, kind(k), []byte(i.Name))
	}
	if k := protocol.NEGOTIATION_TYPE_INFO_DESCRIPTION; slices.Contains(kinds, k) && i.Description != "" {
		b = appendOptionReply(b, opt, typ, kind(k), []byte(i.Description))
	}
	if k := protocol.NEGOTIATION_TYPE_INFO_BLOCKSIZE; slices.Contains(kinds, k) {
		d := binary.BigEndian.AppendUint32(kind(k), minBlock)
		d = binary.BigEndian.AppendUint32(d, preferredBlock)
		b = appendOptionReply(b, opt, typ, binary.BigEndian.AppendUint32(d, maxPayload))
	}
	return appendOptionReply(b, opt, protocol.NEGOTIATION_TYPE_REPLY_ACK)
}
