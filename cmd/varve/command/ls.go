package command

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
	"github.com/varve-dev/varve/snapshot/tree"
)

// listed is one line of snapshot ls: a word that others share, an object, or a file.
type listed struct {
	Address wild    `json:"address"`
	Type    string  `json:"type"`              // objects, group, resource, namespace, object, volumes, volume, or that of a file
	Entries *uint64 `json:"entries,omitempty"` // objects or files beneath
	Size    *uint64 `json:"size,omitempty"`    // bytes of contents

	Version         string `json:"version,omitempty"` // of an object: of the API it was read in
	ResourceVersion string `json:"resourceVersion,omitempty"`

	Mode     string     `json:"mode,omitempty"` // of a file: -rw-r--r--
	UID      *uint32    `json:"uid,omitempty"`
	GID      *uint32    `json:"gid,omitempty"`
	Modified *time.Time `json:"modified,omitempty"`
	Target   wild       `json:"target,omitempty"` // of a symbolic link
}

// list returns what stands directly beneath an address, or the object or file at it.
func (v *view) list(ctx context.Context, a snapshot.Address) ([]listed, error) {
	sums, err := v.Digests(ctx)
	if err != nil {
		return nil, err
	}
	found := []listed{}
	for item, err := range v.Children(ctx, a) {
		if err != nil {
			return nil, err
		}
		l, err := v.listedItem(ctx, item, sums)
		if err != nil {
			return nil, err
		}
		found = append(found, l)
	}
	if len(found) > 0 || a.String() == "" {
		return found, nil
	}
	e, err := v.entry(ctx, a)
	if errors.Is(err, snapshot.ErrNotFound) && len(a.Key()) == 0 {
		return found, nil // a whole map, and empty
	}
	if err != nil {
		return nil, err
	}
	l, err := listedEntry(a.String(), a.InObjects(), e)
	if l.Mode != "" && l.Mode[0] == 'd' {
		return found, err
	}
	return []listed{l}, err
}

// listAll returns every object and file beneath an address.
func (v *view) listAll(ctx context.Context, a snapshot.Address) (found []listed, err error) {
	var wholes []snapshot.Address
	switch {
	case a.InObjects() || a.Volume() != "":
		wholes = append(wholes, a)
	default:
		if wholes, err = v.maps(ctx, a); err != nil {
			return nil, err
		}
	}
	found = []listed{}
	for _, whole := range wholes {
		m, err := v.Map(ctx, whole)
		if err != nil {
			return nil, err
		}
		for e, err := range m.Scan(ctx, whole.Range()) {
			if err != nil {
				return nil, err
			}
			l, err := listedEntry(entryAddress(whole, e), whole.InObjects(), e)
			if err != nil {
				return nil, err
			}
			found = append(found, l)
		}
	}
	if len(found) == 0 {
		return v.list(ctx, a)
	}
	return found, nil
}

// maps returns the addresses of all maps of the snapshot, or of those of its volumes.
func (v *view) maps(ctx context.Context, a snapshot.Address) (found []snapshot.Address, err error) {
	words := []string{}
	if a.String() == "" {
		words = append(words, objectsRoot)
	}
	volumes, err := v.Volumes(ctx)
	if err != nil {
		return nil, err
	}
	for _, volume := range volumes {
		words = append(words, fileAddress(volume.Name, ""))
	}
	for _, word := range words {
		whole, err := snapshot.ParseAddress(word)
		if err != nil {
			return nil, err
		}
		found = append(found, whole)
	}
	return found, nil
}

func entryAddress(within snapshot.Address, e tree.Entry) string {
	if within.InObjects() {
		return snapshot.ObjectAddress(e.Key).String()
	}
	return strings.TrimRight(snapshot.FileAddress(within.Volume(), e.Key).String(), "/")
}

// listedItem describes a child. What only groups others is counted by the digests, which cost nothing.
func (v *view) listedItem(ctx context.Context, item snapshot.Item, sums *snapshot.Digests) (listed, error) {
	where := item.Address.String()
	if item.Entry != nil {
		return listedEntry(where, item.Address.InObjects(), *item.Entry)
	}
	l := listed{Address: wild(where), Type: volumesRoot}
	switch {
	case item.Address.InObjects():
		l.Type = []string{objectsRoot, "group", "resource", "namespace"}[strings.Count(where, "/")]
		n := countWithin(sums, item.Address)
		l.Entries = &n
	case item.Address.Volume() != "":
		volume, err := v.Volume(ctx, item.Address.Volume())
		if err != nil {
			return listed{}, err
		}
		l.Type, l.Entries, l.Size = "volume", &volume.Root.Count, &volume.Root.Bytes
	default:
		l.Entries = &v.Manifest.Volumes.Count
	}
	return l, nil
}

// countWithin adds up the scopes beneath an address.
func countWithin(sums *snapshot.Digests, a snapshot.Address) (n uint64) {
	within := string(a.Range().From)
	for scope, sum := range sums.All() {
		if strings.HasPrefix(scope, within) {
			n += sum.Objects
		}
	}
	return n
}

func listedEntry(address string, object bool, e tree.Entry) (listed, error) {
	if object {
		o, err := kube.ParseEntry(e)
		return listed{Address: wild(address), Type: "object", Size: &e.Bytes, Version: o.Attributes.Version,
			ResourceVersion: o.Attributes.ResourceVersion}, err
	}
	f, err := parseFile(e)
	if err != nil {
		return listed{}, err
	}
	return listed{Address: wild(address), Type: f.Type.String(), Size: &f.bytes, Mode: mode(f.Attributes),
		UID: &f.UID, GID: &f.GID, Modified: &f.Mtime, Target: wild(f.Target)}, nil
}

// typeLetters stand first in a mode.
var typeLetters = map[files.Type]string{files.Regular: "-", files.Directory: "d", files.Symlink: "l", files.FIFO: "p",
	files.CharDevice: "c", files.BlockDevice: "b", files.Socket: "s"}

// mode is a file's mode as ls shows it: drwxr-xr-t.
func mode(a files.Attributes) string {
	bits := []byte(fs.FileMode(a.Mode & 0o777).String())
	bits[0] = typeLetters[a.Type][0]
	for _, special := range []struct {
		bit    uint32
		at     int
		letter byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		switch {
		case a.Mode&special.bit == 0:
		case bits[special.at] == 'x':
			bits[special.at] = special.letter
		default:
			bits[special.at] = special.letter - 'a' + 'A' // the right to execute is not there
		}
	}
	return string(bits)
}

// writeListed lays out lines, each kind with the columns that suit it. Names stand last, shortened to
// what differs unless that is the whole address.
func writeListed(t *sheet, found []listed, whole bool) {
	before := ""
	for _, l := range found {
		shown := name(l.Address)
		if !whole {
			shown = name(path.Base(string(l.Address)))
		}
		kind := columnsOf(l)
		if kind != before {
			if before != "" {
				t.line("")
			}
			t.row(headers[kind]...)
			before = kind
		}
		amount := ""
		if l.Size != nil {
			amount = size(int64(*l.Size))
		}
		switch kind {
		case "word":
			t.row(count(*l.Entries), amount, shown)
		case "object":
			t.row(amount, l.Version, shown)
		case "file":
			if l.Mode[0] == 'd' {
				shown += "/"
			}
			if l.Target != "" {
				shown += " -> " + name(l.Target)
			}
			t.row(l.Mode, fmt.Sprintf("%d:%d", *l.UID, *l.GID), amount, moment(*l.Modified), shown)
		}
	}
}

var headers = map[string][]string{
	"word":   {"ENTRIES", "SIZE", "NAME"},
	"object": {"SIZE", "VERSION", "NAME"},
	"file":   {"MODE", "OWNER", "SIZE", "MODIFIED", "NAME"},
}

func columnsOf(l listed) string {
	switch {
	case l.Mode != "":
		return "file"
	case l.Type == "object":
		return "object"
	}
	return "word"
}
