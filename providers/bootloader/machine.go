package bootloader

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dlreconcile/dlreconcile/engine/provider"
	"github.com/dlreconcile/dlreconcile/schema"
)

const (
	// machineName is the generated initrd: what one machine, or those that are
	// alike, do to their root. It is the last one, and there is none where there is
	// nothing to say.
	machineName = "machine.img"
	// settingsName is the one file in it, which `nbdroot settle` reads.
	settingsName = "dlreconcile.json"
	// settingsVersion is that of its form.
	settingsVersion = 1
)

// settings is the content of settingsName.
type settings struct {
	Version  int             `json:"version"`
	Hostname string          `json:"hostname,omitempty"`
	Mounts   []settledMount  `json:"mounts,omitempty"`
	Files    []settledFile   `json:"files,omitempty"`
	State    []settledFolder `json:"state,omitempty"`
}

type settledMount struct {
	Path    string   `json:"path"`
	Type    string   `json:"type"`
	Device  string   `json:"device"`
	Options []string `json:"options,omitempty"`
}

type settledFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"` // base64
	Mode    uint32 `json:"mode"`
	Owner   int    `json:"owner"`
	Group   int    `json:"group"`
}

// settledFolder is a directory of a machine's own. Key names the machine; "" is a
// machine without a host block, which names itself by its hardware address.
type settledFolder struct {
	Path string `json:"path"`
	Key  string `json:"key,omitempty"`
}

// rootPath is the mount block that is about the root: its options ride the kernel
// line, since the root is mounted by the time settings are read.
const rootPath = "/"

// machineImage makes the generated initrd of a choice, and says what it is due to.
// It gives nil when there is nothing to say.
func (c *compiler) machineImage(ch choice, settled schema.Way, image *provider.Artifact) (f *file, due schema.Range) {
	all := settled.Settings(ch.entry)
	mounts := slices.DeleteFunc(slices.Clone(all.Mounts), func(m schema.Mount) bool { return m.Path == rootPath })
	switch {
	case len(mounts) > 0:
		due = mounts[0].Range
	case len(all.Files) > 0:
		due = all.Files[0].Range
	case len(all.States) > 0:
		due = all.States[0].Range
	}
	said := len(mounts)+len(all.Files)+len(all.States) > 0
	switch {
	case said && !image.Settles:
		c.refuse(due, "Settings do not reach the machine",
			fmt.Sprintf("mount, file and state blocks are applied by what dlreconcile puts into an image's initial RAM disk, and %s, which %s boots, has none of it. Let dlreconcile make its initramfs (initramfs \"initramfs-tools\"), or take the block away.", ch.entry.Image, ch.entry.Addr))
		return nil, due
	case !image.Settles, !said && settled.Host == nil:
		return nil, due
	}
	key, hostname := "", ""
	if h := settled.Host; h != nil {
		key, hostname = dirOf(h.Addr), h.Hostname
		due = h.Range
	}
	// The content is made when somebody asks for it: ten thousand machines with the
	// same files would have ten thousand copies of them.
	content := func() string { return settingsImage(hostname, key, mounts, all) }
	made := textFile(ch.dir+"/"+machineName, provider.AnswerInitrd, content())
	made.text, made.made = "", &generated{make: content}
	return &made, due
}

// says reports whether there is anything in settings.
func says(s schema.Settings) bool { return len(s.Mounts)+len(s.Files)+len(s.States) > 0 }

// settingsImage makes the bytes of a generated initrd. The same settings give the
// same bytes.
func settingsImage(hostname, key string, mounts []schema.Mount, all schema.Settings) string {
	s := settings{Version: settingsVersion, Hostname: hostname}
	for _, m := range mounts {
		s.Mounts = append(s.Mounts, settledMount{m.Path, m.Type, m.Device, m.Options})
	}
	for _, f := range all.Files {
		s.Files = append(s.Files, settledFile{f.Path, []byte(f.Content), f.Permissions, f.Owner, f.Group})
	}
	for _, st := range all.States {
		s.State = append(s.State, settledFolder{st.Path, key})
	}
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return initramfsOf(settingsName, string(text)+"\n")
}
