package schema

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
