package schema

// WireFamily is what clients call the export, whichever artifact it serves: the
// block's name, and for an instance of for_each a dot and its key. The wire name of
// one artifact is the family, "@" and the first 12 hex digits of the artifact's
// digest. The key is taken as it is: whoever serves the export refuses one that
// cannot stand there.
func (e *Export) WireFamily() string {
	if e.Addr.Key == "" {
		return e.Addr.Name
	}
	return e.Addr.Name + "." + e.Addr.Key
}
