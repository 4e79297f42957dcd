package schema

var variableBlock = &blockSpec{
	labels: []string{"name"},
	attrs:  map[string]attrRule{"type": static, "default": optional, "description": optional, "sensitive": optional},
	blocks: map[string]*blockSpec{"validation": notYet},
}
