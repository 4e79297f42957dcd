package schema

var variableBlock = &blockSpec{
	labels: []string{"name"},
	attrs:  map[string]attrRule{"type": static, "default": optional, "description": optional, "sensitive": optional},
	blocks: map[string]*blockSpec{"validation": assertion},
}

// assertion is something that must be true.
var assertion = &blockSpec{attrs: map[string]attrRule{"condition": required, "error_message": required}}

var checkBlock = &blockSpec{labels: []string{"name"}, blocks: map[string]*blockSpec{"assert": assertion}}

var movedBlock = &blockSpec{attrs: map[string]attrRule{"from": static, "to": static}}

var policyBlock = &blockSpec{
	once:   true,
	attrs:  map[string]attrRule{"max_delete": optional, "allow_empty": optional, "approve": optional},
	blocks: map[string]*blockSpec{"window": windowBlock},
}

var windowBlock = &blockSpec{attrs: map[string]attrRule{
	"days": optional, "from": required, "to": required, "timezone": optional,
}}

// moduleBlock has, besides these, an attribute for every variable of the module.
var moduleBlock = &blockSpec{labels: []string{"name"}, forEach: true, open: true, attrs: map[string]attrRule{"source": required}}

var outputBlock = &blockSpec{labels: []string{"name"}, attrs: map[string]attrRule{"value": required}}
