// Package examples holds sites to begin from, one folder each; the demo serves
// quickstart, and the others are planned by the tests.
package examples

import "embed"

// FS holds the example that the demo serves.
//
//go:embed quickstart/site.hcl quickstart/issue
var FS embed.FS
