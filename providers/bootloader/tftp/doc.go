// Package tftp serves files read-only over TFTP (RFC 1350) with the options of
// RFC 2347, 2348 (blksize), 2349 (timeout, tsize) and 7440 (windowsize), over
// IPv4.
//
// One socket takes the requests. Each request is checked, counted against the
// limits and folded with its own duplicates before anything is started for it.
//
// Files in octet mode, which is what all loaders ask for, are sent by the sender here,
// in lockstep as in windows: it knows windowsize, timeout and small blocks, adapts its
// timeouts, and costs less per block. Requests in the text mode netascii are carried
// by pin/tftp, which reads them from this package through a net.PacketConn; except
// where the answer must leave from another address than the kernel's choice, and
// where the file took time to open.
//
// What a request may name, and what the bytes are, is the caller's business: see
// Config.Open.
package tftp
