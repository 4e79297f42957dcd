package schema

// settings are the blocks that say what a machine does to its root: the same in
// entries, groups and hosts.
var settings = map[string]*blockSpec{
	"mount": {labels: []string{"path"}, attrs: map[string]attrRule{"type": optional, "device": optional, "options": optional}},
	"file": {labels: []string{"path"}, attrs: map[string]attrRule{
		"content": optional, "source": optional, "permissions": optional, "owner": optional, "group": optional,
	}},
	"state": {labels: []string{"path"}, attrs: map[string]attrRule{"per": optional}},
}

var exportBlock = &blockSpec{
	labels: []string{"type", "name"}, forEach: true,
	values: []string{NBD, NFS},
	attrs: map[string]attrRule{
		"server": optional, "image": required, "mode": optional, "keep": optional, "limit": optional, "allow": optional, "tls": optional,
		"path": optional, "clients": optional, "options": optional,
	},
}

var entryBlock = &blockSpec{
	labels: []string{"name"}, forEach: true,
	attrs:  map[string]attrRule{"title": optional, "image": required, "root": required, "args": optional},
	blocks: settings,
}

var bootloaderBlock = &blockSpec{
	labels: []string{"type", "name"}, forEach: true,
	values: []string{IPXE, GRUB, PXELINUX},
	attrs: map[string]attrRule{
		"entries": required, "timeout": optional, "protocol": optional,
		"serial": optional, "secure_boot": optional, "fallback": optional,
	},
}
