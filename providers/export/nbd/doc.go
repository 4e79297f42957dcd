// Package nbd serves block devices over the network block device protocol, as
// described by doc/proto.md of github.com/NetworkBlockDevice/nbd; clauses are
// named by their headings there.
//
// What is supported:
//
//	handshake     fixed newstyle, NO_ZEROES
//	security      NOTLS, SELECTIVETLS and FORCEDTLS modes (see Security)
//	options       EXPORT_NAME ABORT LIST STARTTLS INFO GO STRUCTURED_REPLY
//	              LIST_META_CONTEXT SET_META_CONTEXT EXTENDED_HEADERS; every other
//	              one: ERR_UNSUP
//	information   EXPORT NAME DESCRIPTION BLOCK_SIZE (1, 4096, 32 MiB)
//	replies       simple, structured, extended
//	commands      READ (DF) WRITE DISC FLUSH TRIM CACHE WRITE_ZEROES (NO_HOLE,
//	              FAST_ZERO) BLOCK_STATUS (REQ_ONE, base:allocation), FUA; every
//	              other one, RESIZE too: EINVAL
//
// What one client asked for is answered together, in one call to the kernel, from
// where the bytes lie (see Lender); what waits for a disk is answered elsewhere, and
// whoever has had a turn lets others have theirs. docs/nbd.md has the whole path.
//
// The package knows exports only through a Handler, so it decides nothing about
// names, access or storage. It is written for hostile peers: no length on the
// wire makes it allocate before it was checked, and what one connection can hold
// is bounded (see Limits).
//
// A server that stops disconnects; it never answers ESHUTDOWN. The Linux client
// hands that error to the file system, while a lost connection is retried.
package nbd
