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
}
