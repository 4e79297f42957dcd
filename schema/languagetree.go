package schema

var variableBlock = &blockSpec{
	labels: []string{"name"},
	attrs:  map[string]attrRule{"type": static, "default": optional, "description": optional, "sensitive": optional},
	blocks: map[string]*blockSpec{"validation": notYet},
}

var movedBlock = &blockSpec{attrs: map[string]attrRule{"from": static, "to": static}}

var policyBlock = &blockSpec{
	once:   true,
	attrs:  map[string]attrRule{"max_delete": optional, "allow_empty": optional, "approve": optional},
	blocks: map[string]*blockSpec{"window": windowBlock},
}

var windowBlock = &blockSpec{attrs: map[string]attrRule{
	"days": optional, "from": required, "to": required, "timezone": optional,
}}
