package engine

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/engine/store"
)

// StoreDrift reads every file of a state directory that a kept generation needs through,
// and says which are not what they should be. Nothing is healed where nothing runs.
func StoreDrift(ctx context.Context, st *store.Store) ([]provider.Drift, error) {
	uses, err := st.AllUses()
	if err != nil {
		return nil, err
	}
	by := map[string][]store.Use{}
	for _, u := range uses {
		by[u.Digest] = append(by[u.Digest], u)
	}
	var list []provider.Drift
	for _, b := range store.ByDigest(uses) {
		_, err := st.Content().Check(ctx, b, nil)
		l := &lostBlob{blob: b, uses: by[b.Digest], how: "the daemon puts back what it can when it runs"}
		var spoilt *store.SpoiltError
		switch {
		case err == nil:
			continue
		case errors.Is(err, fs.ErrNotExist):
			l.kind, l.reason = provider.DriftBlobMissing, "its file is gone"
		case errors.As(err, &spoilt):
			l.kind, l.reason = provider.DriftBlobChanged, spoilt.Reason
		default:
			return nil, err
		}
		list = append(list, l.drifts()...)
	}
	slices.SortFunc(list, provider.CompareDrift)
	return list, nil
}
