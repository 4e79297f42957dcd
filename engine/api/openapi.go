package api

import (
	"io"
	"net/http"

	"github.com/dlreconcile/dlreconcile/docs"
)

// openapi answers GET /v1/openapi.yaml: the description of all routes.
func (s *Server) openapi(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/yaml")
	_, _ = io.WriteString(w, docs.OpenAPI()) // an error here is the client's going away
}
