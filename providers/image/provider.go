package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"github.com/dlreconcile/dlreconcile/engine/plan"
	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
	"github.com/dlreconcile/dlreconcile/schema"
)

// Config says what a Provider works with. Only Content is required.
type Config struct {
	Content *store.Content
	// Program is nbdroot for the initramfs, for the architecture of the images.
	// Nil takes the one that this binary carries, or the file beside it.
	Program []byte
	Log     *slog.Logger // nil discards
	// Concurrency is how many images are built at once; 0 is 1: a build keeps
	// two processors busy.
	Concurrency int
	// Linger is how long a build goes on when the Prepare that wanted it was
	// cancelled, in case the next one wants it too. It counts only while Run
	// runs, which waits for such builds, and while no wanted build waits for their
	// place. 0 stops builds at once.
	Linger time.Duration
	// Env is added to the environment of the programs that fetch packages:
	// "http_proxy=http://10.0.0.1:3128".
	Env []string
	// Machine is the root directory of this machine, where its package sources
	// are read; nil is "/".
	Machine fs.FS
}

// Provider builds images. It serves nobody: what it makes is sealed files, and
// other providers serve them.
type Provider struct {
	Config
	slots  *semaphore.Weighted
	builds flights[provider.Artifact] // by recipe
	bases  flights[provider.Blob]     // by base recipe
}

// New makes a provider over a content store.
func New(c Config) (*Provider, error) {
	if c.Content == nil {
		return nil, errors.New("image: no content store")
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Machine == nil {
		c.Machine = os.DirFS("/")
	}
	return &Provider{Config: c, slots: semaphore.NewWeighted(int64(max(1, c.Concurrency)))}, nil
}

// Name is "image".
func (p *Provider) Name() string { return "image" }

// Kinds is every image block.
func (p *Provider) Kinds() []string { return []string{"image"} }

// Run lets builds outlive a cancelled Prepare for Config.Linger, and when ctx
// ends, ends them and waits until they are gone.
func (p *Provider) Run(ctx context.Context) error {
	p.builds.allow(p.Linger)
	p.bases.allow(p.Linger)
	<-ctx.Done()
	p.builds.stop()
	p.bases.stop()
	return nil
}

// Prepare gives every image of the desired state its artifact: the one that the
// generation's record names, the one that the store has for the recipe, or a new
// build.
func (p *Provider) Prepare(ctx context.Context, in provider.Input) (provider.Txn, error) {
	images := in.Want.Images
	artifacts := make([]provider.Artifact, len(images))
	recipes := make([]string, len(images))
	for i, img := range images {
		recipes[i] = img.Recipe
	}
	defer p.builds.want(recipes)()
	g, gctx := errgroup.WithContext(ctx)
	for i, img := range images {
		a, ok := p.stored(img, in)
		if ok {
			artifacts[i] = a
			continue
		}
		if in.Offline {
			return nil, fmt.Errorf("%s: nothing in the store was built from recipe %s, and nothing is built offline", img.Addr, img.Recipe)
		}
		g.Go(func() error {
			report := func(s step) {
				in.Report(provider.Progress{Addr: img.Addr, Step: s.name, Text: s.text, Done: s.done, Total: s.total})
			}
			a, err := contained(func() (provider.Artifact, error) {
				return p.builds.do(gctx, img.Recipe, report, func(ctx context.Context, report func(step)) (provider.Artifact, error) {
					return p.build(ctx, img, in.Files, report)
				})
			})
			if err != nil {
				return fruitless{diagnose(img, err)} // the cause of gctx's end
			}
			artifacts[i] = a
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, errors.Unwrap(err)
	}
	out := make(map[schema.Addr]provider.Output, len(images))
	for i, img := range images {
		out[img.Addr] = provider.Output{Artifact: &artifacts[i]}
	}
	return txn{out}, nil
}

// stored looks for an artifact that needs no build.
func (p *Provider) stored(img *schema.Image, in provider.Input) (provider.Artifact, bool) {
	if a, ok := in.Artifacts[img.Recipe]; ok {
		// Whoever needs one of its loaders opens that, and nobody may.
		if p.Content.Has(a.Root) && p.Content.Has(a.Kernel) && p.Content.Has(a.Initrd) {
			return a, true
		}
	}
	return p.Content.Artifact(img.Recipe)
}

// Answer says nothing: no machine talks to this provider.
func (p *Provider) Answer(provider.Query) []provider.Answer { return nil }

// Retire has nothing to drop: the store's collection removes artifacts.
func (p *Provider) Retire(context.Context, provider.Live) error { return nil }

// Observe sees nothing that runs.
func (p *Provider) Observe(context.Context) ([]plan.Observation, error) { return nil, nil }

// txn holds finished artifacts; publishing them is the business of others.
type txn struct {
	out map[schema.Addr]provider.Output
}

func (t txn) Outputs() map[schema.Addr]provider.Output { return t.out }

func (t txn) Answer(provider.Query) []provider.Answer { return nil }

func (t txn) Commit() {}

func (t txn) Abort() {}
