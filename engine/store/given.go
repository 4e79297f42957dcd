package store

import "slices"

// signsGiven is the purpose of the digests in Record.GivenDigests.
const signsGiven = "given variable v1"

// TakeGiven fills GivenDigests and GivenKey from the values that the variables in Given
// have in vars.
func (r *Record) TakeGiven(key *HostKey, vars map[string]string) {
	r.GivenDigests, r.GivenKey = nil, ""
	for _, name := range r.Given {
		if value, ok := vars[name]; ok {
			if r.GivenDigests == nil {
				r.GivenDigests, r.GivenKey = map[string]string{}, key.Public()
			}
			r.GivenDigests[name] = givenDigest(key, name, value)
		}
	}
}

// Regiven names, sorted, the variables in Given whose values in vars are others than
// those that the record was made with. Of one that vars has no value of, or that was
// digested with another key, it is not known.
func (r *Record) Regiven(key *HostKey, vars map[string]string) []string {
	if r.GivenKey != key.Public() {
		return nil
	}
	var list []string
	for name, digest := range r.GivenDigests {
		if value, ok := vars[name]; ok && digest != givenDigest(key, name, value) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// givenDigest keeps names and values apart: no name has a zero byte in it.
func givenDigest(key *HostKey, name, value string) string {
	return key.Digest(signsGiven, []byte(name+"\x00"+value))
}
