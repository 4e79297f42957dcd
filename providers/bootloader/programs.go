package bootloader

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

// found gives what a bootloader has of this host's packages: offline what the
// generation was recorded with, whatever they hold by now.
func (c *compiler) found(b *schema.Bootloader, f family) (programs, error) {
	if blobs := c.in.Blobs[b.Addr]; c.in.Offline && blobs != nil {
		return maps.Clone(blobs), nil
	}
	return c.loaders.load(c.ctx, f.wants(b))
}

// equip gives an offer what it is made with: of the image's packages what they have,
// so that kernel and loader fit together and carry signatures of the same
// distribution, and the rest of this host's.
func (c *compiler) equip(o *offer, image *provider.Artifact) {
	key := equipment{o.boot.Addr, image.Root.Digest}
	have, known := c.equipped[key]
	if !known {
		have.programs = programs{}
		for _, w := range o.family.wants(o.boot) {
			if b, ok := image.Loaders[w.image]; ok && w.image != "" {
				have.programs[w.name] = b
			} else if b, ok := c.host[o.boot.Addr][w.name]; ok {
				have.programs[w.name] = b
			} else if w.platform == "" || w.platform.Boots(o.arch) {
				have.lacks = append(have.lacks, w)
			}
		}
		c.equipped[key] = have
	}
	o.programs, o.lacks = have.programs, have.lacks
}

// equipment is what decides about the programs of an offer.
type equipment struct {
	boot  schema.Addr
	image string // digest of its root
}

// equipped is what offers are made with.
type equipped struct {
	programs programs
	lacks    []wanted
}

// made gives a program that is made of another, from, by make: its bytes must depend
// on those of from and on name alone. It is made once, and recorded with the
// bootloader: a generation that is prepared again has the same program, whatever
// tools this host has by then. ok is false when it failed, and c.fail knows.
func (c *compiler) made(o *offer, name string, from provider.Blob, make func(ctx context.Context, from *os.File) ([]byte, error)) (b provider.Blob, ok bool) {
	key := name + "@" + provider.ShortDigest(from.Digest)
	recorded := c.host[o.boot.Addr]
	if b, ok := recorded[key]; ok {
		return b, true
	}
	l := c.loaders
	l.mu.Lock()
	defer l.mu.Unlock()
	if b = l.made[key]; !l.content.Has(b) {
		src, err := l.content.Open(from)
		if err != nil {
			c.fail(fmt.Errorf("%s: making %s: %w", o.boot.Addr, name, err))
			return b, false
		}
		defer src.Close()
		content, err := make(c.ctx, src)
		if err == nil {
			b, err = l.content.Put(c.ctx, bytes.NewReader(content))
		}
		if err != nil {
			c.fail(fmt.Errorf("%s: making %s: %w", o.boot.Addr, name, err))
			return b, false
		}
		l.made[key] = b
	}
	recorded[key] = b
	return b, true
}

// fail notes what is not the configuration's fault.
func (c *compiler) fail(err error) {
	if c.err == nil {
		c.err = err
	}
}
