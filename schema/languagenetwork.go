package schema

var listener = &blockSpec{once: true, attrs: map[string]attrRule{"listen": optional, "enabled": optional}}

var serverBlock = &blockSpec{
	labels: []string{"name"},
	attrs:  map[string]attrRule{"interface": optional, "address": required},
	blocks: map[string]*blockSpec{
		"dhcp": listener, "tftp": listener, "http": listener, "nbd": listener, "nfs": listener,
	},
}

var subnetBlock = &blockSpec{
	labels: []string{"name"}, forEach: true,
	attrs: map[string]attrRule{
		"server": optional, "mode": optional, "cidr": required, "authoritative": optional, "bootp": optional, "routers": optional,
		"domain_name_servers": optional, "domain_name": optional, "ntp_servers": optional,
		"interface_mtu": optional, "next_server": optional, "lease_time": optional, "boot": optional,
		"boot_file_name": optional, "router_advertisement": optional,
	},
	blocks: map[string]*blockSpec{"pool": {attrs: map[string]attrRule{"range": required}}},
}

var groupBlock = &blockSpec{
	labels: []string{"name"}, forEach: true,
	attrs:  map[string]attrRule{"entry": optional, "boot": optional, "args": optional},
	blocks: settings,
}

var hostBlock = &blockSpec{
	labels: []string{"name"}, forEach: true,
	attrs: map[string]attrRule{
		"mac": required, "address": optional, "hostname": optional, "group": optional,
		"entry": optional, "boot": optional, "args": optional,
	},
	blocks: settings,
}
