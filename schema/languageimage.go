package schema

var imageBlock = &blockSpec{
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
		"pacstrap": {once: true, attrs: map[string]attrRule{
			"mirror": optional, "packages": optional, "files": optional, "arch": optional,
		}},
		"oci":       {once: true, attrs: map[string]attrRule{"reference": required, "platform": optional}},
		"directory": {once: true, attrs: map[string]attrRule{"path": required}},
		"disk": {once: true, attrs: map[string]attrRule{
			"path": optional, "url": optional, "sha256": optional, "format": optional, "partition": optional,
		}},
		"sealed": {once: true, attrs: map[string]attrRule{"digest": required, "filesystem": required}},
		"copy": {labels: []string{"path"}, attrs: map[string]attrRule{
			"from": required, "replace": optional, "permissions": optional,
		}},
		"file": {labels: []string{"path"}, attrs: map[string]attrRule{
			"content": optional, "source": optional, "symlink": optional,
			"permissions": optional, "owner": optional, "group": optional,
		}},
		"initramfs": {
			once: true, labels: []string{"generator"}, labelOptional: true,
			values: []string{InitramfsTools, Mkinitcpio, Dracut, OwnInitramfs},
			attrs:  map[string]attrRule{"modules": optional, "compress": optional, "hooks": optional, "binaries": optional},
		},
		"filesystem": {
			once: true, labels: []string{"type"},
			values: []string{"ext4", "btrfs", "squashfs"}, laterValues: []string{"xfs", "erofs"},
			attrs: map[string]attrRule{"size": optional, "label": optional, "compress": optional},
		},
	},
}
