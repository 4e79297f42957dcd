package nbd

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/pojntfx/go-nbd/pkg/protocol"
)

// Options in any order, as often as they like, right and wrong ones: each is answered by
// its own replies and leaves the haggling in step; INFO of one export and GO to another
// serve the other; and in the form that was agreed on.
func TestOptionsInDisorder(t *testing.T) {
	h := testShelf()
	rand.NewChaCha8([32]byte{12}).Read(h.exports["rw"].Backend.(*disk).b)
	dial := serve(t, crowd(h), Limits{})
	check := bystander(t, dial())
	for seed := range uint64(150) {
		r := rand.New(rand.NewPCG(3, seed))
		disorder(t, r, dial(), h)
	}
	check()
}

func disorder(t *testing.T, r *rand.Rand, cl *client, h *shelf) {
	t.Helper()
	garbage := make([]byte, r.IntN(200))
	for i := range garbage {
		garbage[i] = byte(r.Uint32())
	}
	names := []string{"ro", "rw", "nobody", "", "secret"}
	name := func() string { return names[r.IntN(len(names))] }
	options := []func() (uint32, []byte){
		func() (uint32, []byte) { return 3, nil },
		func() (uint32, []byte) { return 3, garbage },
		func() (uint32, []byte) { return 5, nil },
		func() (uint32, []byte) { return 6, infoData(name(), 0, 1, 2, 3) },
		func() (uint32, []byte) { return 6, garbage },
		func() (uint32, []byte) { return 7, infoData("nobody") },
		func() (uint32, []byte) { return 7, garbage },
		func() (uint32, []byte) { return optStructuredReply, nil },
		func() (uint32, []byte) { return optStructuredReply, garbage },
		func() (uint32, []byte) { return optExtendedHeaders, nil },
		func() (uint32, []byte) { return optListMeta, metaData(name()) },
		func() (uint32, []byte) { return optListMeta, garbage },
		func() (uint32, []byte) { return optSetMeta, metaData(name(), baseAllocation, "x:y") },
		func() (uint32, []byte) { return optSetMeta, garbage },
		func() (uint32, []byte) { return r.Uint32() | 1<<16, garbage },
	}
	cl.greet(3)
	agreed := simple
	var wire []byte
	var ids []uint32
	for range r.IntN(25) {
		id, data := options[r.IntN(len(options))]()
		wire, ids = append(wire, option(id, data)...), append(ids, id)
	}
	cl.send(wire) // without waiting for an answer
	for i, id := range ids {
		last := cl.replies(id)
		if last[len(last)-1].Type != ack {
			continue
		}
		switch id {
		case 7:
			t.Fatalf("option %d of %v: GO attaches to nothing", i, ids)
		case optStructuredReply:
			agreed = max(agreed, structured)
		case optExtendedHeaders:
			agreed = extended
		}
	}
	to := names[r.IntN(2)]
	cl.send(option(6, infoData(names[1-r.IntN(2)])), option(7, infoData(to)))
	cl.replies(6)
	if last := cl.replies(7); last[len(last)-1].Type != protocol.NEGOTIATION_TYPE_REPLY_ACK {
		t.Fatalf("after %v: GO: %v", ids, last)
	}
	const off, n = 5000, 700
	cl.send(agreed.ask(0, 0, 9, off, n), agreed.ask(0, 2, 0, 0, 0))
	cookie, errno, data := cl.next(agreed, map[uint64]int{9: n})
	want := h.exports[to].Backend.(*disk).b[off : off+n]
	if cookie != 9 || errno != 0 || !bytes.Equal(data, want) {
		t.Errorf("after %v: cookie %d, errno %d, %d bytes of %q", ids, cookie, errno, len(data), to)
	}
	cl.wantClosed()
}
