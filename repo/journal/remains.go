package journal

import "github.com/varve-dev/varve/repo/seal"

// Remains is what still opens of an entry that is no longer part of a history.
type Remains struct {
	Entry  *Stored // its operations; nil if they do not open
	Inline []byte  // what stands behind them: the inline pack, if there is one
	Bare   bool    // nothing stood behind them, as far as the length tells, and nothing is cut off
}

// Salvage opens what can be opened of the stored bytes of entry n, whatever it followed.
func Salvage(keys *seal.Keys, n uint64, data []byte) (r Remains) {
	if e, err := open(keys, n, data); err == nil {
		r.Entry = e
	}
	end, ok := operationsEnd(data)
	if ok && end < len(data) {
		r.Inline = data[end:]
	}
	r.Bare = ok && end == len(data)
	return r
}
