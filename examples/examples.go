// Package examples holds sites that work as they are; the demo serves the first.
package examples

import "embed"

// FS holds the examples, one folder each.
//
//go:embed quickstart
var FS embed.FS
