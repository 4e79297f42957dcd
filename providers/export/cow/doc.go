// Package cow keeps copy-on-write overlays: what one machine wrote over a sealed
// base, in blocks of 4096 bytes, until its owner retires or removes it: when the
// connection, or the boot, that it was for is over, or when the machine boots from
// another base.
//
// # On disk
//
//	<dir>/<machine>/<instance>/<export>/meta.json  the record, with a checksum
//	                                    data       sparse, as long as the base
//	                                    live       bitmap: blocks that are in data
//	                                    flushed    bitmap: blocks that are in data on stable storage
//
// # What survives
//
// A write is: data, then its bits in live, both with plain pwrite. The page cache
// keeps the two in that order when the process is killed, so a new process finds
// every answered write, and never a bit without its data.
//
// A power cut keeps no order, so live counts only while the server has not been
// rebooted since, nor the file system mounted anew: the record holds the kernel's boot
// id, and what names the mounting (see superblock). After either flushed counts. Sync
// writes it between two fdatasyncs: data first, then the bits of exactly those blocks.
// Bits are only ever set, so a torn write of flushed leaves each block in its old or its
// new state, as a disk does, and never as zeros that nobody wrote.
//
// # What is damaged
//
// Every 32 bits of a bitmap have their checksum beside them (see form), written in the
// same call: no cut, of the power or by kill -9, looks like damage, and no damage like
// a cut. flushed is on stable storage, with checksums, before the overlay is made, so
// zeros are damage too. What is flushed is live, and what is flushed is as long as the
// base. An overlay that is otherwise is refused with ErrDamaged. Those of version 1
// have no checksums; the latter two hold for them as well. The data has none: that is
// for its file system.
//
// Below <dir> no link is followed, and only files of these names are removed, and empty
// folders. An overlay of which a file is no regular file is refused. One whose record, or
// folder, cannot be read stays until Discard puts a retired record in its place.
//
// meta.json is written last when an overlay is made, and a folder without one is
// an overlay that never was.
package cow
