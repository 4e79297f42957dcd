// Package store is the state directory: its lock, the generation records, the
// content store of sealed files, and the database of what must survive a crash.
package store
