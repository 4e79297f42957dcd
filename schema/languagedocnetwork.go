package schema

import "strconv"

func serverDoc() BlockDoc {
	d := BlockDoc{
		Name: "server",
		Text: "The sockets that exist. Nothing else binds one. Several daemons may follow one repo, each with its own block (`--server NAME`): " +
			"everything is checked, and each plans its part.\n\nAs values, `server.NAME.address` and `server.NAME.interface` are text.",
		Attrs: []AttrDoc{
			{Name: "address", Type: "IPv4 address", Effects: []Effect{EffectSocket, EffectRenewal, EffectBoot},
				Text: "what machines are told. A machine that runs keeps the old socket for its root until it reboots"},
			{Name: "interface", Type: "string", Otherwise: "the one that has `address`", Effects: []Effect{EffectSocket, EffectRenewal, EffectBoot},
				Text: "DHCP listens on this network interface, broadcasts included, and answers IPv6 router solicitations on it. Without it DHCP binds `address`"},
		},
		Example: `server "main" {
  interface = "eth0"
  address   = "10.0.0.1"
  dhcp {
    listen = ":67"
  }
  tftp {
    listen = ":6969"
  }
  http {
    listen = "10.0.0.1:8080"
  }
  nbd {
    enabled = true
  }
  nfs {
    listen = ":2049"
  }
}`,
	}
	for _, p := range standardPorts {
		d.Blocks = append(d.Blocks, listenerDoc(p.protocol, p.port))
	}
	return d
}

func listenerDoc(protocol string, port uint16) BlockDoc {
	seen := map[string][]Effect{
		"dhcp": {EffectSocket, EffectRenewal}, "tftp": {EffectSocket, EffectBoot}, "http": {EffectSocket, EffectBoot},
		"nbd": {EffectSocket, EffectBoot}, "nfs": {EffectSocket, EffectBoot},
	}[protocol]
	unserved := ""
	if protocol == NFS {
		unserved = "nothing listens yet, so it can be planned, and not applied"
	}
	return BlockDoc{
		Name: protocol, Unserved: unserved,
		Text: map[string]string{
			"dhcp": "Leases, and what to boot. In proxy mode ports 67 and 4011.",
			"tftp": "Boot programs, and what they load by TFTP.",
			"http": "Boot programs, scripts, kernels and initrds by HTTP.",
			"nbd":  "Roots as block devices.",
			"nfs":  "Roots as files. Without the block, it is there when an export needs it.",
		}[protocol],
		Attrs: []AttrDoc{
			{Name: "listen", Type: "string", Otherwise: "`address`, port " + strconv.Itoa(int(port)), Effects: seen,
				Text: "`\":PORT\"` or `\"ADDRESS:PORT\"`"},
			{Name: "enabled", Type: "bool", Default: "true", Effects: []Effect{EffectLive},
				Text: "`false`: no such socket. What needs it is then refused: an export its protocol, a bootloader TFTP or HTTP"},
		},
	}
}

func subnetDoc() BlockDoc {
	renewal, boot := []Effect{EffectRenewal}, []Effect{EffectBoot}
	return BlockDoc{
		Name: "subnet",
		Text: "A network that DHCP answers on. Two subnets never overlap, whatever their modes.\n\n" +
			"A subnet behind a relay agent is written like any other: the agent's own address, which is in every request that it brings (`giaddr`), says " +
			"which subnet it is, and a request of an agent that no subnet holds is not answered. Machines on the server's own wire are on the " +
			"subnet that holds the server's address.\n\n" +
			"With `mode = \"proxy\"` there are no pools, and none of `lease_time`, `routers`, `domain_name_servers`, `domain_name`, `ntp_servers`, " +
			"`interface_mtu`, `authoritative` and `bootp`: all of that is the other server's to say. `false`, `[]` and `null` may stand there, so that " +
			"`mode` can come from a variable. A host's `address` is then the one that the other server gives it.\n\n" +
			"A subnet is refused when its server does not speak what its bootloaders need, and so are a group and a host with a `boot` of their own: " +
			"TFTP for pxelinux, for `secure_boot` and for `protocol = \"tftp\"`, HTTP for `protocol = \"http\"`. One of a list that works is enough.",
		Attrs: []AttrDoc{
			{Name: "cidr", Type: "IPv4 network", Effects: renewal, Text: "`/8` to `/30`. A lease outside of it is honoured to its end"},
			{Name: "server", Type: "reference to a server", Otherwise: "the only one", Effects: renewal, Text: "whose sockets answer here"},
			{Name: "mode", Type: "string", Default: `"server"`, Effects: []Effect{EffectLive, EffectBoot},
				Text: "`proxy`: addresses come from another DHCP server, and this one says only what to boot. A machine keeps its lease to the end"},
			{Name: "boot", Type: "reference to a bootloader, or list of them", Otherwise: "none: addresses only", Effects: boot,
				Text: "of several, the first that has a program for the machine's architecture counts"},
			{Name: "boot_file_name", Type: "map of strings", Otherwise: "the bootloader's", Effects: boot,
				Text: "names by client architecture (DHCP option 93) that are told instead of the bootloader's: `{ \"7\" = \"other.efi\" }`"},
			{Name: "next_server", Type: "IPv4 address", Otherwise: "the server's address", Effects: boot, Text: "`siaddr`"},
			{Name: "lease_time", Type: "duration", Default: `"1h"`, Effects: renewal, Text: "at least a minute"},
			{Name: "routers", Type: "list of IPv4 addresses", Otherwise: "not sent", Effects: renewal, Text: "option 3; in the network"},
			{Name: "domain_name_servers", Type: "list of IPv4 addresses", Otherwise: "not sent", Effects: renewal, Text: "option 6"},
			{Name: "domain_name", Type: "string", Otherwise: "not sent", Effects: renewal, Text: "option 15"},
			{Name: "ntp_servers", Type: "list of IPv4 addresses", Otherwise: "not sent", Effects: renewal, Text: "option 42"},
			{Name: "interface_mtu", Type: "number", Otherwise: "not sent", Effects: renewal, Text: "option 26, 68 to 65535"},
			{Name: "authoritative", Type: "bool", Default: "false", Effects: renewal,
				Text: "say no to clients that ask for an address that is wrong here, so that they ask anew at once"},
			{Name: "bootp", Type: "bool", Default: "false", Effects: renewal, Text: "answer clients that speak BOOTP only; their leases do not end"},
			{Name: "router_advertisement", Type: "bool", Default: "true", Effects: boot,
				Text: "answer IPv6 router solicitations with \"no router here\", which spares iPXE 16 s; needs the server's `interface`"},
		},
		Blocks: []BlockDoc{{
			Name: "pool",
			Text: "Addresses for machines without a reservation, any number of ranges. Without one, only hosts with an `address` get one.",
			Attrs: []AttrDoc{
				{Name: "range", Type: "string", Effects: renewal,
					Text: "`\"10.0.0.100-10.0.0.199\"`, both included. A lease outside of the new pools is honoured to its end"},
			},
		}},
		Example: `subnet "lan" {
  cidr    = "10.0.0.0/24"
  routers = ["10.0.0.254"]
  boot    = [bootloader.grub.menu, bootloader.ipxe.menu]
  pool {
    range = "10.0.0.128-10.0.0.253"
  }
}

subnet "office" { # beside the office's own DHCP server
  cidr = "10.1.0.0/24"
  mode = "proxy"
  boot = bootloader.ipxe.menu
}`,
	}
}

func groupDoc() BlockDoc {
	boot := []Effect{EffectBoot}
	return BlockDoc{
		Name: "group",
		Text: "What hosts have in common. A host is in at most one.",
		Attrs: []AttrDoc{
			{Name: "entry", Type: "reference to an entry", Otherwise: "the bootloader's first", Effects: boot, Text: "for hosts that name none"},
			{Name: "boot", Type: "reference to a bootloader, or list of them", Otherwise: "the subnet's", Effects: boot, Text: "for hosts that name none"},
			{Name: "args", Type: "list of strings", Otherwise: "none", Effects: boot, Text: "kernel arguments, after those of the entry and before those of the host"},
		},
		Blocks: settingsDocs(),
		Example: `group "room" {
  for_each = { a = "1", b = "2" }
  entry    = entry.debian
  args     = ["room=${each.value}"]
  mount "/home" {
    type    = "nfs4"
    device  = "10.0.0.9:/home"
    options = ["nodev", "nosuid"]
  }
}`,
	}
}

func hostDoc() BlockDoc {
	boot := []Effect{EffectBoot}
	return BlockDoc{
		Name: "host",
		Text: "A machine that is known. One without a host block gets an address from a pool, and the first entry.",
		Attrs: []AttrDoc{
			{Name: "mac", Type: "string", Effects: boot,
				Text: "six bytes. The machine with the new one boots as this host; the one with the old one as a machine without a block"},
			{Name: "address", Type: "IPv4 address", Otherwise: "one from a pool", Effects: []Effect{EffectRenewal},
				Text: "a reservation, in a subnet. It comes when the lease of the old one ends; an address that somebody has a lease of is given when that has ended"},
			{Name: "hostname", Type: "string", Otherwise: "the `for_each` key, else the block's name", Effects: []Effect{EffectRenewal, EffectBoot},
				Text: "at most 64 characters. Option 12, and the machine's own name at its next boot"},
			{Name: "group", Type: "reference to a group", Otherwise: "none", Effects: boot},
			{Name: "entry", Type: "reference to an entry", Otherwise: "the group's, else the bootloader's first", Effects: boot},
			{Name: "boot", Type: "reference to a bootloader, or list of them", Otherwise: "the group's, else the subnet's", Effects: boot},
			{Name: "args", Type: "list of strings", Otherwise: "none", Effects: boot, Text: "kernel arguments, after those of the entry and the group"},
		},
		Blocks: settingsDocs(),
		Example: `host "render01" {
  mac     = "52:54:00:00:00:01"
  address = "10.0.0.21"
  group   = group.room["a"]
  args    = ["systemd.log_level=debug"]
}`,
	}
}
