package schema

func variableDoc() BlockDoc {
	uses, none := []Effect{EffectUsers}, []Effect{EffectNone}
	return BlockDoc{
		Name: "variable",
		Text: "A value that can differ between the places that follow the repo, used as `var.NAME`. It has the value of `--var`, `DLRECONCILE_VAR_…` or " +
			"daemon.hcl (see [operations.md](operations.md)), else that of the env file, else its default. Values are part of the plan.\n\n" +
			"An env file is a set of values that lies in the repo: `env/NAME.hcl` (or `env/NAME.hcl.json`) beside the configuration, with an attribute for " +
			"each variable that it gives a value: `lease = \"10m\"`. Its values are what a `default` may be. Which one counts is the daemon's to say, with " +
			"`--env NAME`.",
		Attrs: []AttrDoc{
			{Name: "type", Type: "type", Default: "string", Effects: uses,
				Text: "in a module: anything, references too. `string`, `number`, `bool`, `list(…)`, `set(…)`, `map(…)`, `object({…})`, `tuple([…])`, `any`"},
			{Name: "default", Type: "any", Otherwise: "a value must be given", Effects: uses, Text: "constants and functions; no references"},
			{Name: "description", Type: "string", Otherwise: "none", Effects: none, Text: "for people"},
			{Name: "sensitive", Type: "bool", Default: "false", Effects: none,
				Text: "the value is shown nowhere and not recorded; the daemon must be given it at every start. Refused where others can read it: in `args`, " +
					"`title`, a host's `hostname`, and `device` and `options` of a `mount`"},
		},
		Blocks: []BlockDoc{{
			Name:  "validation",
			Text:  "What a value must be. It may look at other variables and locals.",
			Attrs: assertionDocs(),
		}},
		Example: `variable "domain" {
  default     = "lab.example"
  description = "what machines are called after"
  validation {
    condition     = endswith(var.domain, ".example")
    error_message = "Machines are called after a domain of ours."
  }
}`,
	}
}

func localsDoc() BlockDoc {
	return BlockDoc{
		Name: "locals",
		Text: "Values to use in several places: each attribute, of any name, is one, and is used as `local.NAME`. Any number of blocks.",
		Example: `locals {
  rooms = { a = "1", b = "2" }
}`,
	}
}

func moduleDoc() BlockDoc {
	uses := []Effect{EffectUsers}
	return BlockDoc{
		Name: "module",
		Text: "The configuration of another folder of the repo, once, or once for each key of `for_each`. Every attribute besides these two is the value of a " +
			"`variable` of that folder, and may be a reference; variables without a default need one. A module names what is in its own folder; what is " +
			"outside comes as a value of a variable, and what is inside is named outside by its outputs: `module.rack[\"north\"].subnet`.\n\n" +
			"Resources in a module have its address before their own: `module.rack[\"north\"].host.ws[\"ws02\"]`. A module may hold everything but `server`, " +
			"`policy` and `moved`, and modules in folders below its own. Paths in its files are relative to its folder.",
		Attrs: []AttrDoc{
			{Name: "source", Type: "path in the repo", Effects: uses,
				Text: "a folder below the one of the file: `\"./modules/rack\"`, in quotation marks, without expressions"},
		},
		Example: `module "rack" {
  source   = "./modules/rack"
  for_each = { north = 7, south = 8 }
  number   = each.value
  boot     = bootloader.ipxe.menu
}`,
	}
}

func outputDoc() BlockDoc {
	return BlockDoc{
		Name: "output",
		Text: "What a module says of itself, used as `module.NAME.OUTPUT` where the module is included. This is `modules/rack/rack.hcl`:",
		Attrs: []AttrDoc{
			{Name: "value", Type: "any", Effects: []Effect{EffectUsers}, Text: "may be a reference, or hold some"},
		},
		Example: `variable "number" {
  type = number
}

variable "boot" {
}

subnet "lan" {
  cidr = cidrsubnet("10.0.0.0/8", 16, var.number)
  boot = var.boot
}

output "subnet" {
  value = subnet.lan
}`,
	}
}

func movedDoc() BlockDoc {
	none := []Effect{EffectNone}
	return BlockDoc{
		Name: "moved",
		Text: "A resource has another address now: another name, another key, or another module. The plan then shows it as moved, and nothing of it is " +
			"deleted. Any number, and they may go when every daemon that follows the repo has applied the commit.\n\n" +
			"Addresses are written as references are: `host.a`, `host.ws[\"ws02\"]`, `module.rack[\"a\"].host.ws[\"ws02\"]`. Without keys in both, all " +
			"instances of the block are meant. Each resource moves once: there are no chains.",
		Attrs: []AttrDoc{
			{Name: "from", Type: "address", Required: true, Effects: none, Text: "the address before; nothing is declared there any more"},
			{Name: "to", Type: "address", Required: true, Effects: none, Text: "the address now, of the same kind and type"},
		},
		Example: `moved {
  from = host.node01
  to   = host.render01
}`,
	}
}

func assertionDocs() []AttrDoc {
	none := []Effect{EffectNone}
	return []AttrDoc{
		{Name: "condition", Type: "bool", Effects: none, Text: "`false`: the configuration is invalid"},
		{Name: "error_message", Type: "string", Effects: none, Text: "what is then said; not shown when it holds a sensitive value"},
	}
}

func checkDoc() BlockDoc {
	return BlockDoc{
		Name: "check",
		Text: "What must be true of the configuration beyond what the language checks itself. It has one `assert` or more.",
		Blocks: []BlockDoc{{
			Name:  "assert",
			Text:  "One thing that must be true. It may look at everything that has a value; a block with `for_each` is a map of its instances.",
			Attrs: assertionDocs(),
		}},
		Example: `check "reservations" {
  assert {
    condition     = length(host.ws) < 100
    error_message = "The pool begins at .128, and reservations are below it."
  }
}`,
	}
}

func policyDoc() BlockDoc {
	gate := []Effect{EffectNextCommit}
	return BlockDoc{
		Name: "policy",
		Text: "What a daemon may bring about by itself. What counts is the policy of what is served, not the one of the commit that would replace it: a " +
			"commit cannot let itself through.",
		Attrs: []AttrDoc{
			{Name: "max_delete", Type: "number or string", Otherwise: "more than 5 resources that are more than 10 %", Effects: gate,
				Text: "a plan that deletes more is denied: a number of resources, or a share of those that are served: `\"10%\"`. Replacements count, and hosts whose `mac` is another machine's"},
			{Name: "allow_empty", Type: "bool", Default: "false", Effects: gate, Text: "whether a plan may delete the last resource"},
			{Name: "approve", Type: "string", Default: `"automatic"`, Effects: gate, Text: "`\"required\"`: an operator applies each commit"},
		},
		Blocks: []BlockDoc{{
			Name: "window",
			Text: "The daemon applies in one of them only, any number. None: always.",
			Attrs: []AttrDoc{
				{Name: "days", Type: "set of strings", Otherwise: "every day", Effects: gate,
					Text: "of the beginning: `\"mon\"`, `\"tue\"`, `\"wed\"`, `\"thu\"`, `\"fri\"`, `\"sat\"`, `\"sun\"`"},
				{Name: "from", Type: "string", Effects: gate, Text: "a time of day: `\"22:00\"`"},
				{Name: "to", Type: "string", Effects: gate, Text: "likewise; one that is not after `from` is on the next day"},
				{Name: "timezone", Type: "string", Default: `"UTC"`, Effects: gate, Text: "of the tz database: `\"Europe/Berlin\"`. The machine of the daemon must know it"},
			},
		}},
		Example: `policy {
  max_delete = 10
  window {
    days     = ["mon", "tue", "wed", "thu"]
    from     = "22:00"
    to       = "06:00"
    timezone = "Europe/Berlin"
  }
}`,
	}
}
