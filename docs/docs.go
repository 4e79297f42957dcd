// Package docs holds the description of the API that the daemon gives to whoever asks.
package docs

import _ "embed" // for the directive below

//go:embed openapi.yaml
var openAPI string

// OpenAPI is docs/openapi.yaml.
func OpenAPI() string { return openAPI }
