package main

import "testing"

func TestEditFstab(t *testing.T) {
	log := fstabLine{device: "tmpfs", path: "/var/log", kind: "tmpfs", options: []string{"nodev", "size=10%"}}
	odd := fstabLine{device: "a#b", path: "/a b\t\\c\nd", kind: "none"}
	const block = "# BEGIN dlreconcile\ntmpfs /var/log tmpfs nodev,size=10% 0 0\n# END dlreconcile\n"
	tests := []struct {
		name, text string
		lines      []fstabLine
		want       string
	}{
		{"nothing at all", "", nil, ""},
		{"nothing of ours", "/dev/sda1 / ext4 rw 0 1\n", nil, "/dev/sda1 / ext4 rw 0 1\n"},
		{"no file", "", []fstabLine{log}, block},
		{"no newline at the end", "# x", []fstabLine{log}, "# x\n" + block},
		{"the image's own line", "# /x /var/log y\nUUID=1 /var/log/ xfs rw\n", []fstabLine{log}, "# /x /var/log y\n#dlreconcile# UUID=1 /var/log/ xfs rw\n" + block},
		{"of the boot before", block + "#dlreconcile# UUID=1 /home xfs rw\nproc /proc proc rw\n", []fstabLine{log}, "UUID=1 /home xfs rw\nproc /proc proc rw\n" + block},
		{"again", "#dlreconcile# UUID=1 /var/log xfs rw\n" + block, []fstabLine{log}, "#dlreconcile# UUID=1 /var/log xfs rw\n" + block},
		{"no end", "# BEGIN dlreconcile\nproc /proc proc rw\n", nil, "proc /proc proc rw\n"},
		{"white space", "x /a\\040b\\011\\134c\\012d y z\n", []fstabLine{odd},
			"#dlreconcile# x /a\\040b\\011\\134c\\012d y z\n# BEGIN dlreconcile\na\\043b /a\\040b\\011\\134c\\012d none defaults 0 0\n# END dlreconcile\n"},
	}
	for _, tt := range tests {
		if got := editFstab(tt.text, tt.lines); got != tt.want {
			t.Errorf("%s:\n%q, want\n%q", tt.name, got, tt.want)
		}
	}
}

func TestEditHosts(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", "127.0.0.1\tlocalhost\n127.0.1.1\tws01\n"},
		{"127.0.1.1 image image.lan\n127.0.1.1 again\n127.0.1.10 x", "127.0.1.1\tws01\n127.0.1.10 x\n"},
		{"::1 localhost\n", "::1 localhost\n127.0.1.1\tws01\n"},
	} {
		if got := editHosts(tt.text, "ws01"); got != tt.want {
			t.Errorf("%q gives %q, want %q", tt.text, got, tt.want)
		}
	}
}
