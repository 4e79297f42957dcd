package schema

// attrRule says what may be done with an attribute.
type attrRule uint8

const (
	optional attrRule = iota + 1
	required
	static // optional, and looked at as written instead of evaluated
	later  // the language has it, this version does not
)

// blockSpec describes one kind of block: what may be written in it. It knows
// nothing about values.
type blockSpec struct {
	labels        []string // what each label is called in messages
	labelOptional bool     // the only label may be left out
	values        []string // what the first label may be; nil for any name
	laterValues   []string // what it may be in a later version
	attrs         map[string]attrRule
	blocks        map[string]*blockSpec
	once          bool // at most one in its parent
	unsupported   bool // a later version has it
	open          bool // attributes may have any name
	forEach       bool
}

// notYet is a block that the language has and this version does not.
var notYet = &blockSpec{unsupported: true}

var listener = &blockSpec{once: true, attrs: map[string]attrRule{"listen": optional, "enabled": optional}}

// settings are the blocks that say what a machine does to its root: the same in
// entries, groups and hosts.
var settings = map[string]*blockSpec{
	"mount": {labels: []string{"path"}, attrs: map[string]attrRule{"type": optional, "device": optional, "options": optional}},
	"file": {labels: []string{"path"}, attrs: map[string]attrRule{
		"content": optional, "source": optional, "permissions": optional, "owner": optional, "group": optional,
	}},
	"state": {labels: []string{"path"}, attrs: map[string]attrRule{"per": optional}},
}

// language is every kind of block in the root of a file. It is never written to.
var language = map[string]*blockSpec{
	"server": {
		labels: []string{"name"},
		attrs:  map[string]attrRule{"interface": optional, "address": required},
		blocks: map[string]*blockSpec{
			"dhcp": listener, "tftp": listener, "http": listener, "nbd": listener,
			"nfs": notYet,
		},
	},
	"image": {
		labels: []string{"name"}, forEach: true,
		attrs: map[string]attrRule{
			"hostname": optional, "timezone": optional, "locale": optional, "keymap": optional, "mask": optional,
		},
		blocks: map[string]*blockSpec{
			"debootstrap": {once: true, attrs: map[string]attrRule{
				"suite": required, "mirror": optional, "components": optional, "packages": optional,
				"variant": optional, "keyring": optional, "arch": optional,
			}},
			"tar": {once: true, attrs: map[string]attrRule{"path": required, "sha256": optional}},
			"file": {labels: []string{"path"}, attrs: map[string]attrRule{
				"content": optional, "source": optional, "symlink": optional,
				"permissions": optional, "owner": optional, "group": optional,
			}},
			"initramfs": {
				once: true, labels: []string{"generator"}, labelOptional: true,
				values: []string{"initramfs-tools", "none"}, laterValues: []string{"mkinitcpio", "dracut"},
				attrs: map[string]attrRule{"modules": optional, "compress": optional, "hooks": later, "binaries": later},
			},
			"filesystem": {
				once: true, labels: []string{"type"},
				values: []string{"ext4", "btrfs", "squashfs"}, laterValues: []string{"xfs", "erofs"},
				attrs: map[string]attrRule{"size": optional, "label": optional, "compress": optional},
			},
			"pacstrap": notYet, "oci": notYet, "qcow2": notYet, "copy": notYet,
		},
	},
	"export": {
		labels: []string{"type", "name"}, forEach: true,
		values: []string{"nbd"}, laterValues: []string{"nfs"},
		attrs: map[string]attrRule{
			"server": optional, "image": required, "mode": optional, "keep": optional, "allow": optional,
		},
	},
	"entry": {
		labels: []string{"name"}, forEach: true,
		attrs:  map[string]attrRule{"title": optional, "image": required, "root": required, "args": optional},
		blocks: settings,
	},
	"bootloader": {
		labels: []string{"type", "name"}, forEach: true,
		values: []string{IPXE, GRUB, PXELINUX},
		attrs: map[string]attrRule{
			"entries": required, "timeout": optional, "protocol": optional,
			"serial": optional, "secure_boot": optional, "fallback": optional,
		},
	},
	"subnet": {
		labels: []string{"name"}, forEach: true,
		attrs: map[string]attrRule{
			"server": optional, "mode": optional, "cidr": required, "authoritative": optional, "bootp": optional, "routers": optional,
			"domain_name_servers": optional, "domain_name": optional, "ntp_servers": optional,
			"interface_mtu": optional, "next_server": optional, "lease_time": optional, "boot": optional,
			"boot_file_name": optional, "router_advertisement": optional,
		},
		blocks: map[string]*blockSpec{"pool": {attrs: map[string]attrRule{"range": required}}},
	},
	"group": {
		labels: []string{"name"}, forEach: true,
		attrs:  map[string]attrRule{"entry": optional, "boot": optional, "args": optional},
		blocks: settings,
	},
	"host": {
		labels: []string{"name"}, forEach: true,
		attrs: map[string]attrRule{
			"mac": required, "address": optional, "hostname": optional, "group": optional,
			"entry": optional, "boot": optional, "args": optional,
		},
		blocks: settings,
	},
	"variable": {
		labels: []string{"name"},
		attrs:  map[string]attrRule{"type": static, "default": optional, "description": optional, "sensitive": optional},
		blocks: map[string]*blockSpec{"validation": notYet},
	},
	"locals": {open: true},
	"module": notYet, "moved": notYet, "check": notYet, "policy": notYet,
}

// typed reports whether blocks of a kind have their type as first label, so that
// references to them have three parts.
func typed(kind string) bool { return kind == "export" || kind == "bootloader" }

// resourceKinds are the kinds that references name, in the order in which they are
// decoded.
var resourceKinds = []string{"server", "image", "export", "entry", "bootloader", "subnet", "group", "host"}

// names gives the attributes of a spec that may be written today.
func (s *blockSpec) names() []string {
	var out []string
	for n, r := range s.attrs {
		if r != later {
			out = append(out, n)
		}
	}
	if s.forEach {
		out = append(out, "for_each")
	}
	return out
}

// kinds gives the blocks of a spec that may be written today.
func (s *blockSpec) kinds() []string {
	var out []string
	for n, b := range s.blocks {
		if !b.unsupported {
			out = append(out, n)
		}
	}
	return out
}
