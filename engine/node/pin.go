//go:build !unpinned

package node

// pinned says that a boot session is answered from the generation that it was
// opened on. The build tag "unpinned" makes it false: what a switch in the middle
// of a boot would do then is what a test of that build shows.
const pinned = true
