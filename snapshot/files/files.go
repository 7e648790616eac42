// Package files backs up and restores file trees: a folder becomes a map (package tree) of one entry
// per file, with contents placed by package content, and the map becomes a folder again.
//
// # Keys
//
// A file's key is its path beneath the root with '/' replaced by a zero byte, so a directory's entry
// is followed by all that lies in it, and then by its siblings; see [Key]. The root itself has the
// key of one zero byte, which comes before all others.
//
// # Backup
//
// [Backup] walks the folder in the order of keys, by file descriptor: every directory is opened from
// the one above it with openat2, which refuses symbolic links and other file systems, so whoever can
// write to the folder while it is backed up cannot make the walk leave it. Beside the walk goes a
// cursor over the parent's map; a file that is as it was there is not opened. FIFOs, sockets and
// devices are never opened. Files are read by several goroutines ahead of the one that adds the
// entries in order. What vanishes, changes or cannot be read is counted in the [Report], and nothing
// else is lost.
//
// # Restore
//
// [Restore] works by file descriptor as well: an entry is only ever created in a directory that this
// restore itself opened beneath the target, under a name that is one component. A file gets a
// temporary name, its content, its metadata, and then its own name, so a name stands for a complete,
// verified file at all times. Directories get their modes and times when everything in them is done.
//
// # Hard links
//
// Of the names of one file in the tree, the first in the order of keys holds the content; the others
// say that they are links to it ([Attributes.Link]). Restore links them, or copies the content where
// the file system knows no hard links. Until all names of a file have been seen, which may be never if
// some are outside of the tree, it costs both some hundred bytes of memory.
package files

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

var (
	// ErrNotEmpty means that a restore's target has something in it and the policy forbids that.
	ErrNotEmpty = errors.New("the target is not empty")
	// ErrMalformed means that a key or attributes in a map are not what Backup writes.
	ErrMalformed = errors.New("malformed file entry")
	// ErrNotFound means that a path is not in the map.
	ErrNotFound = errors.New("no such file in the snapshot")

	// errGone and errMount tell the walk why it cannot open what it has just seen.
	errGone  = errors.New("it vanished or was replaced")
	errMount = errors.New("it belongs to another file system")
)

// Bounds of names.
const (
	maxName  = 255  // bytes of one component
	maxDepth = 4096 // components of a path
)

// maxFindings is how many paths a report lists of each kind; all are counted.
const maxFindings = 1000

// rootKey is the key of the root: an empty component, which no other path has.
var rootKey = string([]byte{0})

// Events are told of progress. Any may be nil; they are called by several goroutines at once and
// must not block for long.
type Events struct {
	Entry func(path string, a Attributes) // an entry is stored or restored
	Open  func(path string)               // a file of the source was opened to be read
	Bytes func(n int64)                   // so many more bytes were read or written
}

// Findings are paths about which there is something to say.
type Findings struct {
	Count int64
	List  []Finding // the first ones, at most 1,000
}

// Finding is one path and what happened to it.
type Finding struct {
	Path   string // relative to the root, with slashes; any bytes but zero
	Reason string
}

// Key returns the key of a slash-separated path relative to the root; "." is the root. The path must
// be clean: no empty component, no "." or ".." within.
func Key(path string) ([]byte, error) {
	if path == "." {
		return []byte(rootKey), nil
	}
	if strings.IndexByte(path, 0) >= 0 {
		return nil, fmt.Errorf("path %q: a zero byte", path)
	}
	key := []byte(strings.ReplaceAll(path, "/", "\x00"))
	if back, err := Path(key); err != nil || back != path {
		return nil, fmt.Errorf("path %q is not a clean relative path", path)
	}
	return key, nil
}

// Path returns the path of a key, the reverse of [Key]. A key of which any component could lead
// somewhere else than into the directory before it gives an error wrapping [ErrMalformed].
func Path(key []byte) (string, error) {
	if string(key) == rootKey {
		return ".", nil
	}
	depth := 0
	for name := range strings.SplitSeq(string(key), "\x00") {
		depth++
		switch {
		case name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0:
			return "", fmt.Errorf("%w: key %q has the component %q", ErrMalformed, key, name)
		case len(name) > maxName:
			return "", fmt.Errorf("%w: a name of %d bytes", ErrMalformed, len(name))
		case depth > maxDepth:
			return "", fmt.Errorf("%w: a path of more than %d components", ErrMalformed, maxDepth)
		}
	}
	return strings.ReplaceAll(string(key), "\x00", "/"), nil
}

// recorder writes down what several goroutines find.
type recorder struct {
	mu sync.Mutex
}

// add counts one path in the list f.
func (r *recorder) add(f *Findings, path string, reason any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Count++
	if len(f.List) < maxFindings {
		f.List = append(f.List, Finding{Path: path, Reason: fmt.Sprint(reason)})
	}
}

// sort puts a list into the order of paths, which goroutines have mixed.
func (f *Findings) sort() {
	slices.SortStableFunc(f.List, func(a, b Finding) int { return strings.Compare(a.Path, b.Path) })
}

func (e Events) entry(path string, a Attributes) {
	if e.Entry != nil {
		e.Entry(path, a)
	}
}

func (e Events) open(path string) {
	if e.Open != nil {
		e.Open(path)
	}
}

func (e Events) bytes(n int64) {
	if e.Bytes != nil {
		e.Bytes(n)
	}
}
