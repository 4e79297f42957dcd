package plan

// edit is one part of the difference of two lists.
type edit struct {
	mark byte // ' ', '+' or '-'
	text string
}

// maxCells bounds the work of one difference. Lists that differ in more than that are
// told as one list taken away and another put in its place.
const maxCells = 1 << 20

// edits gives a shortest way from one list to another: what both have in order stays.
// Of what differs at one place, what goes stands before what comes.
func edits(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	list := make([]edit, 0, len(a)+len(b))
	for _, s := range a[:head] {
		list = append(list, edit{' ', s})
	}
	list = append(list, middle(a[head:len(a)-tail], b[head:len(b)-tail])...)
	for _, s := range a[len(a)-tail:] {
		list = append(list, edit{' ', s})
	}
	return list
}

// middle is edits of lists that begin and end with different elements: the longest
// common subsequence, by a table of lengths.
func middle(a, b []string) []edit {
	var list []edit
	if len(a) > 0 && len(b) > 0 && len(a) <= maxCells/len(b) {
		width := len(b) + 1
		length := make([]int32, (len(a)+1)*width) // of what a[i:] and b[j:] have in common
		for i := len(a) - 1; i >= 0; i-- {
			for j := len(b) - 1; j >= 0; j-- {
				if a[i] == b[j] {
					length[i*width+j] = length[(i+1)*width+j+1] + 1
				} else {
					length[i*width+j] = max(length[(i+1)*width+j], length[i*width+j+1])
				}
			}
		}
		i, j := 0, 0
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				list = append(list, edit{' ', a[i]})
				i, j = i+1, j+1
			case length[(i+1)*width+j] >= length[i*width+j+1]:
				list = append(list, edit{'-', a[i]})
				i++
			default:
				list = append(list, edit{'+', b[j]})
				j++
			}
		}
		a, b = a[i:], b[j:]
	}
	for _, s := range a {
		list = append(list, edit{'-', s})
	}
	for _, s := range b {
		list = append(list, edit{'+', s})
	}
	return list
}
