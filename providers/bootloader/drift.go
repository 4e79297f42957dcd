package bootloader

import (
	"os"

	"github.com/dlreconcile/dlreconcile/engine/provider"
)

var _ provider.Keeper = (*Provider)(nil)

// KeptBlob implements provider.Keeper.
func (p *Provider) KeptBlob(digest string) *os.File { return p.blobs.KeptBlob(digest) }

// SpoilBlob implements provider.Keeper.
func (p *Provider) SpoilBlob(digest string, f os.FileInfo, why error) {
	p.blobs.SpoilBlob(digest, f, why)
}

// RenewBlob implements provider.Keeper.
func (p *Provider) RenewBlob(b provider.Blob) error { return p.blobs.RenewBlob(b) }
