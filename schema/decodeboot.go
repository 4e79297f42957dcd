package schema

import "fmt"

func (l *loader) export(it *item) {
	e := &Export{
		Server: it.server(),
		Image:  it.ref("image", "image"),
		Mode:   ExportMode(it.text("mode", string(ReadOnly), oneOf([]string{string(ReadOnly), string(CopyOnWrite)}, "read-write"))),
		Allow:  it.refs("allow", false, "subnet", "host"),
	}
	it.needed("image")
	if e.Mode == CopyOnWrite {
		e.Keep = Keep(it.text("keep", string(KeepBoot), oneOf([]string{string(KeepBoot)}, "host", "connection")))
	} else if _, _, written := it.value("keep"); written {
		it.fail(it.place("keep"), "keep without copy-on-write", fmt.Sprintf("A %s export has no overlays that could be kept. Take the line away, or write mode = %q.", e.Mode, CopyOnWrite))
	}
	if it.made.failed {
		return
	}
	e.Meta = it.meta()
	l.out.Exports = append(l.out.Exports, e)
}

func (l *loader) entry(it *item) {
	e := &Entry{
		Title: it.exposedText("title", inMenu, it.made.addr.Name, checkTitle),
		Image: it.ref("image", "image"),
		Root:  it.ref("root", "export"),
		Args:  it.exposedTexts("args", onKernelLine, checkArg),

		Settings: it.settings(),
	}
	it.needed("image")
	it.needed("root")
	if it.made.failed {
		return
	}
	e.Meta = it.meta()
	l.out.Entries = append(l.out.Entries, e)
}
