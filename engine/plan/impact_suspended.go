package plan

import (
	"fmt"
	"slices"
	"strings"
)

const suspendedDetail = "suspended: stays on generation "

// suspended reports whether the impact is of machines that are kept where they are.
func (im *Impact) suspended() bool {
	return im.Effect == EffectKeeps && strings.HasPrefix(im.Detail, suspendedDetail)
}

// stay takes suspended hosts out of what comes at a machine's next boot: theirs stay on
// the generation that the order names.
func (w *world) stay(i *impacts) {
	if len(w.stays) == 0 {
		return
	}
	list := i.list
	i.list = nil
	for _, im := range list {
		if im.Effect != EffectNextBoot && !(im.Effect == EffectDiscards && im.Detail == overlayAtBoot) {
			i.list = append(i.list, im)
			continue
		}
		rest := slices.DeleteFunc(slices.Clone(im.Machines), func(name string) bool { return w.stays[name] != 0 })
		if len(rest) > 0 || len(im.Machines) == 0 {
			i.tell(im.Effect, im.Artifact, im.Detail, rest...)
		}
		for _, name := range im.Machines {
			if n := w.stays[name]; n != 0 {
				i.add(EffectKeeps, "", fmt.Sprint(suspendedDetail, n), name)
			}
		}
	}
}
