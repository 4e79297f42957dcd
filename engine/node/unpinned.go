//go:build unpinned

package node

// pinned is false in a build for one test only: see pin.go.
const pinned = false
