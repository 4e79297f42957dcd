package plan

import "fmt"

// sealed tells of images that are in no store and that nothing can build: apply would
// not do it. Where nobody said what the store holds, it tells that instead.
func (w *warnings) sealed() {
	for _, im := range w.want.desired.Images {
		if im.Sealed == nil || w.artifacts.built[im.Recipe] != "" {
			continue
		}
		what := fmt.Sprintf("%s is %s, as %s", im.Addr, im.Sealed.Digest, im.Filesystem.Type)
		var one *Warning
		if w.artifacts.built == nil {
			one = w.add(im.At("sealed.digest"), "It is not known whether the daemon holds the sealed image", what+
				", and no daemon or state directory was asked. apply refuses it where that artifact is not in the store. "+
				"Plan where the daemon is, or with --observed FILE of its `dlreconcile status --observed`.", "")
		} else {
			one = w.add(im.At("sealed.digest"), "The sealed image is not in the daemon's store", what+
				", and the store holds no such artifact, nor can it be built: it was promoted for another daemon, or as another file system, "+
				"or no generation has named it for a week and it was cleared away. "+
				"`dlreconcile image promote HOST` makes one of the disk of a machine, and prints the block to write here; or say what the image is built from.", "")
			one.Refused = true
		}
		one.Machines = append(one.Machines, w.want.usedBy(im.Addr)...)
	}
}
