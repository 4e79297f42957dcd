package nbd

import (
	"context"
	"encoding/binary"
	"strings"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

const (
	baseNamespace  = "base:"
	baseAllocation = "base:allocation"
)

// metaRequest is the data of NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT.
type metaRequest struct {
	name    string
	queries []string
}

// parseMetaRequest reads: 32 bits length of name; name; 32 bits number of queries;
// for each 32 bits length and the query. Anything else is not ok, and neither is a
// query without a namespace ("Metadata querying").
func parseMetaRequest(b []byte) (metaRequest, bool) {
	name, b, ok := cutString(b)
	if !ok || len(b) < 4 {
		return metaRequest{}, false
	}
	q := metaRequest{name: name}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	for ; n > 0; n-- { // ends with b, at the latest
		var query string
		if query, b, ok = cutString(b); !ok || !strings.Contains(query, ":") {
			return metaRequest{}, false
		}
		q.queries = append(q.queries, query)
	}
	return q, len(b) == 0
}

// cutString takes a string with its length before it off the front of b.
func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 4 {
		return "", nil, false
	}
	n := binary.BigEndian.Uint32(b)
	b = b[4:]
	if n > maxString || int(n) > len(b) {
		return "", nil, false
	}
	return string(b[:n]), b[n:], true
}

// selects reports whether base:allocation is among what is asked for. No query, and
// a namespace without a name, only list.
func (q metaRequest) selects(list bool) bool {
	for _, query := range q.queries {
		if query == baseAllocation || list && query == baseNamespace {
			return true
		}
	}
	return list && len(q.queries) == 0
}

// meta is NBD_OPT_LIST_META_CONTEXT and NBD_OPT_SET_META_CONTEXT. A SET undoes what
// the one before it selected, even when it fails.
func (c *conn) meta(ctx context.Context, id uint32, data []byte) []byte {
	if id == optSetMeta {
		c.allocation = nil
	}
	if c.form == simple {
		return appendOptionReply(nil, id, repErrInvalid, []byte("structured replies must be negotiated first"))
	}
	q, ok := parseMetaRequest(data)
	if !ok {
		return doNotAddUp(id)
	}
	if _, err := c.srv.handler.Info(ctx, c.peer(), q.name); err != nil {
		return c.refusal(ctx, id, q.name, err)
	}
	var reply []byte
	if q.selects(id == optListMeta) {
		contextID := uint32(0) // "reserved" when listing
		if id == optSetMeta {
			contextID = allocationID
			c.allocation = &q.name
		}
		reply = appendOptionReply(nil, id, repMetaContext, binary.BigEndian.AppendUint32(nil, contextID), []byte(baseAllocation))
	}
	return appendOptionReply(reply, id, protocol.NEGOTIATION_TYPE_REPLY_ACK)
}
