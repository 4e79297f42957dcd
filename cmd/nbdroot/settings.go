package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// settings is what a machine, or a group of like machines, has for itself although
// the image is shared: /dlreconcile.json, which a generated initrd brings. The
// boot server writes it (package bootloader); this is what of it is understood.
type settings struct {
	Version  int            `json:"version"`
	Hostname string         `json:"hostname"` // "" leaves it to DHCP and the image
	Mounts   []mountSetting `json:"mounts"`
	Files    []fileSetting  `json:"files"`
	State    []stateSetting `json:"state"`
}

// mountSetting is a line for fstab. It never speaks of "/", which is mounted.
type mountSetting struct {
	Path    string   `json:"path"` // absolute, like every path here
	Type    string   `json:"type"`
	Device  string   `json:"device"` // "" is the type, as for tmpfs
	Options []string `json:"options"`
}

// fileSetting is a file that is put into the root.
type fileSetting struct {
	Path    string  `json:"path"`
	Content []byte  `json:"content"` // base64
	Mode    *uint32 `json:"mode"`    // nil is 0644
	Owner   int     `json:"owner"`
	Group   int     `json:"group"`
}

// stateSetting is a directory that is this machine's own.
type stateSetting struct {
	Path string `json:"path"`
	// Key names the machine among those that share the root's storage; "" is for
	// machines that nobody named, and stands for the hardware address.
	Key string `json:"key"`
}

const (
	settingsVersion = 1
	maxSettings     = 8 << 20 // bytes of JSON: three blocks with 1 MiB of files each, in base64
	maxPath         = 4096    // PATH_MAX
	maxKey          = 255     // NAME_MAX
)

// loadSettings reads the file. Without one there is nothing to settle but what
// every machine has.
func loadSettings(file string) (settings, error) {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return settings{Version: settingsVersion}, nil
	}
	if err != nil {
		return settings{}, err
	}
	defer f.Close()
	s, err := readSettings(f)
	if err != nil {
		return settings{}, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// readSettings reads the JSON. Keys that are not known are passed over: what must
// be understood comes with another version.
func readSettings(r io.Reader) (settings, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxSettings+1))
	if err != nil {
		return settings{}, err
	}
	if len(b) > maxSettings {
		return settings{}, fmt.Errorf("it has more than %d MiB", maxSettings>>20)
	}
	var v struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return settings{}, err
	}
	if v.Version != settingsVersion {
		return settings{}, fmt.Errorf("it has version %d, and this image's initramfs knows %d: build the image again", v.Version, settingsVersion)
	}
	var s settings
	return s, json.Unmarshal(b, &s)
}

// empty reports whether nothing has to be written for s that a shared, read-only
// root does not have.
func (s settings) empty() bool {
	return s.Hostname == "" && len(s.Mounts) == 0 && len(s.Files) == 0 && len(s.State) == 0
}

// cleanPath gives a path as the machine will name it.
func cleanPath(p string) (string, error) {
	if !strings.HasPrefix(p, "/") || len(p) >= maxPath || strings.ContainsRune(p, 0) {
		return "", fmt.Errorf("%.100q is not an absolute path", p)
	}
	p = path.Clean(p)
	if p == "/" {
		return "", errors.New("/ is the root itself")
	}
	return p, nil
}

// hidden reports whether the kernel's file systems will lie over what is at p.
func hidden(p string) bool {
	for _, over := range []string{"/dev", "/proc", "/run", "/sys"} {
		if inside(p, over) {
			return true
		}
	}
	return false
}

// inside reports whether p is dir, or below it.
func inside(p, dir string) bool {
	return p == dir || strings.HasPrefix(p, dir+"/")
}
