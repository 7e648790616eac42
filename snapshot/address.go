package snapshot

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/varve-dev/varve/snapshot/tree"
)

// The first words of an address, and what stands in one for a word that is empty in a key: the group
// of the core kinds, and the namespace of what belongs to the whole cluster.
const (
	objectsWord = "objects"
	volumesWord = "volumes"
	coreWord    = "core"
	clusterWord = "_cluster"
)

// Address is a place in a snapshot as people write it:
//
//	objects/GROUP/RESOURCE/NAMESPACE/NAME     objects/apps/deployments/shop/web
//	volumes/NAME/PATH                         volumes/data/var/lib/file
//
// or the beginning of one, which stands for all beneath. The group of the core kinds is written
// "core", and the namespace of objects that have none "_cluster". The zero Address is the whole.
type Address struct{ words []string }

// ParseAddress reads an address. Slashes at its ends do not count.
func ParseAddress(text string) (Address, error) {
	text = strings.Trim(text, "/")
	if text == "" {
		return Address{}, nil
	}
	a := Address{words: strings.Split(text, "/")}
	switch {
	case a.words[0] != objectsWord && a.words[0] != volumesWord:
		return Address{}, fmt.Errorf("address %q: it begins with neither %s/ nor %s/", text, objectsWord, volumesWord)
	case slices.Contains(a.words, ""):
		return Address{}, fmt.Errorf("address %q: a word of it is empty", text)
	case strings.IndexByte(text, 0) >= 0:
		return Address{}, fmt.Errorf("address %q: it has a zero byte", text)
	case a.InObjects() && len(a.words) > 5:
		return Address{}, fmt.Errorf("address %q: an object has four words, group, resource, namespace and name", text)
	}
	return a, nil
}

// ObjectAddress returns the address of an object by its key in the map.
func ObjectAddress(key []byte) Address {
	words := strings.Split(string(key), "\x00")
	for i, w := range words {
		words[i] = shown(i+1, w)
	}
	return Address{append([]string{objectsWord}, words...)}
}

// FileAddress returns the address of a file by its key in the map of a volume.
func FileAddress(volume string, key []byte) Address {
	return Address{append([]string{volumesWord, volume}, strings.Split(string(key), "\x00")...)}
}

// String returns the address as it is written.
func (a Address) String() string { return strings.Join(a.words, "/") }

// Volume returns the name of the volume that the address leads into; empty: none.
func (a Address) Volume() string {
	if len(a.words) > 1 && a.words[0] == volumesWord {
		return a.words[1]
	}
	return ""
}

// InObjects reports whether the address leads into the objects.
func (a Address) InObjects() bool { return len(a.words) > 0 && a.words[0] == objectsWord }

// Key returns the key of the entry at the address in its map: the words joined by zero bytes. It is
// empty for a whole map.
func (a Address) Key() []byte {
	var words []string
	switch {
	case a.InObjects():
		words = slices.Clone(a.words[1:])
		if len(words) > 0 && words[0] == coreWord {
			words[0] = ""
		}
		if len(words) > 2 && words[2] == clusterWord {
			words[2] = ""
		}
	case a.Volume() != "":
		words = a.words[2:]
	}
	return []byte(strings.Join(words, "\x00"))
}

// Range returns the keys beneath the address in its map. The entry at the address itself is not
// among them.
func (a Address) Range() tree.Range {
	if a.depth() == 0 {
		return tree.Range{}
	}
	return tree.Prefix(append(a.Key(), 0))
}

// depth is the number of words of the address that are words of its key.
func (a Address) depth() int {
	if a.InObjects() {
		return len(a.words) - 1
	}
	return max(0, len(a.words)-2)
}

func (a Address) child(word string) Address {
	return Address{append(slices.Clip(slices.Clone(a.words)), word)}
}

// shown writes a word of an object's address that may be empty in its key.
func shown(at int, word string) string {
	switch {
	case word == "" && at == 1:
		return coreWord
	case word == "" && at == 3:
		return clusterWord
	}
	return word
}

// Item is what stands at an address.
type Item struct {
	Address Address
	Name    string      // last word of the address
	Entry   *tree.Entry // nil if it is only a word that others share
}

// Map returns the map that an address leads into, or [ErrNotFound].
func (s *Snapshot) Map(ctx context.Context, a Address) (*tree.Map, error) {
	if a.InObjects() {
		return s.Objects(), nil
	}
	if a.Volume() == "" {
		return nil, fmt.Errorf("%q in snapshot %s is no map of objects or files: %w", a, s.ID, ErrNotFound)
	}
	v, err := s.Volume(ctx, a.Volume())
	if err != nil {
		return nil, err
	}
	return s.Files(v), nil
}

// Lookup returns the entry at an address, or [ErrNotFound].
func (s *Snapshot) Lookup(ctx context.Context, a Address) (tree.Entry, error) {
	m, err := s.Map(ctx, a)
	if err != nil {
		return tree.Entry{}, err
	}
	e, ok, err := m.Get(ctx, a.Key())
	if err != nil {
		return tree.Entry{}, fmt.Errorf("%s in snapshot %s: %w", a, s.ID, err)
	}
	if !ok {
		return tree.Entry{}, fmt.Errorf("%s in snapshot %s: %w", a, s.ID, ErrNotFound)
	}
	return e, nil
}

// Children yields what stands one word beneath an address, in order. What lies deeper is passed over
// without being loaded. An error ends it.
func (s *Snapshot) Children(ctx context.Context, a Address) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		if len(a.words) == 0 || (len(a.words) == 1 && !a.InObjects()) {
			s.upperChildren(ctx, a, yield)
			return
		}
		m, err := s.Map(ctx, a)
		if err != nil {
			yield(Item{}, err)
			return
		}
		prefix, c := a.Range().From, m.Cursor(ctx)
		c.Seek(prefix)
		for {
			e, ok, err := c.Next()
			if err != nil {
				yield(Item{}, fmt.Errorf("list %s in snapshot %s: %w", a, s.ID, err))
				return
			}
			if !ok || !bytes.HasPrefix(e.Key, prefix) {
				return
			}
			word, _, deeper := bytes.Cut(e.Key[len(prefix):], []byte{0})
			if len(word) == 0 && !a.InObjects() { // the entry of the volume itself, which is not beneath it
				c.Seek(slices.Concat(prefix, []byte{1}))
				continue
			}
			item := Item{Name: string(word)}
			if a.InObjects() {
				item.Name = shown(a.depth()+1, item.Name)
			}
			item.Address = a.child(item.Name)
			if !deeper {
				item.Entry = &e
			}
			if !yield(item, nil) {
				return
			}
			c.Seek(slices.Concat(prefix, word, []byte{1})) // the least key that is not beneath the word
		}
	}
}

// upperChildren lists what is no entry of a map of objects or files: the maps themselves.
func (s *Snapshot) upperChildren(ctx context.Context, a Address, yield func(Item, error) bool) {
	if len(a.words) == 0 {
		if !s.Manifest.Objects.Empty() && !yield(Item{Address: a.child(objectsWord), Name: objectsWord}, nil) {
			return
		}
		if !s.Manifest.Volumes.Empty() {
			yield(Item{Address: a.child(volumesWord), Name: volumesWord}, nil)
		}
		return
	}
	volumes, err := s.Volumes(ctx)
	if err != nil {
		yield(Item{}, err)
		return
	}
	for _, v := range volumes {
		if !yield(Item{Address: a.child(v.Name), Name: v.Name}, nil) {
			return
		}
	}
}
