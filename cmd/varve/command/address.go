package command

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/files"
	"github.com/varve-dev/varve/snapshot/tree"
)

const addresses = `Addresses in a snapshot, each also cut short after any word:

  objects/GROUP/RESOURCE/NAMESPACE/NAME   objects/apps/deployments/shop/web
  objects/core/RESOURCE/NAMESPACE/NAME    an object of the group that has no name: pods, secrets, …
  objects/GROUP/RESOURCE/_cluster/NAME    an object of the whole cluster
  volumes/NAME/PATH                       a file of a volume

What is shown in quotation marks is given with them, in single quotes: '"volumes/data/\xff"'.`

// The first words of addresses.
const (
	objectsRoot = "objects"
	volumesRoot = "volumes"
)

// parseAddress reads an address that a user wrote.
func parseAddress(s string) (snapshot.Address, error) {
	s, err := meantBy(s)
	if err != nil {
		return snapshot.Address{}, err
	}
	a, err := snapshot.ParseAddress(s)
	if err != nil {
		return a, failure{err: err, code: exitUsage, hint: "varve snapshot ls SNAPSHOT shows what is there"}
	}
	return a, nil
}

// fileAddress is the address of a file by its path in a volume, "." for the volume itself.
func fileAddress(volume, inside string) string { return path.Join(volumesRoot, volume, inside) }

// find returns the snapshot that a word of a person means.
func find(ctx context.Context, s *session, word string) (*snapshot.Snapshot, error) {
	l, err := locateLive(ctx, s, word)
	if err != nil {
		return nil, err
	}
	return snapshot.Load(ctx, s, l)
}

// locate returns the snapshot among those of r that a word means.
func locate(ctx context.Context, r snapshot.Repository, word string) (journal.Live, error) {
	text, err := meantBy(word)
	if err != nil {
		return journal.Live{}, err
	}
	found, err := snapshot.Locate(ctx, r, text)
	if few := len(text) < 4 && strings.Trim(text, "0123456789abcdef") == ""; few && errors.Is(err, snapshot.ErrNotFound) {
		return found, failure{err: err, hint: "to find a snapshot by the beginning of its ID, give at least four digits"}
	}
	return found, err
}

// view is a snapshot opened for looking into it.
type view struct {
	*snapshot.Snapshot
	contents *content.Reader
}

// withView opens the repository and the snapshot that a word means.
func (a *app) withView(ctx context.Context, word string, use func(*view) error) error {
	return a.withRepository(ctx, func(s *session) error {
		v, err := viewOf(ctx, s, word)
		if err != nil {
			return err
		}
		return use(v)
	})
}

func viewOf(ctx context.Context, s *session, word string) (*view, error) {
	found, err := find(ctx, s, word)
	return &view{found, content.NewReader(s)}, err
}

// entry finds what stands at an address. At that of a volume stands its root folder.
func (v *view) entry(ctx context.Context, a snapshot.Address) (tree.Entry, error) {
	if a.Volume() == "" || len(a.Key()) > 0 {
		return v.Lookup(ctx, a)
	}
	m, err := v.Map(ctx, a)
	if err != nil {
		return tree.Entry{}, err
	}
	key, err := files.Key(".")
	if err != nil {
		return tree.Entry{}, err
	}
	e, ok, err := m.Get(ctx, key)
	if err == nil && !ok {
		err = fmt.Errorf("%s in snapshot %s: %w", a, v.ID, snapshot.ErrNotFound)
	}
	return e, err
}

// has reports whether anything stands at an address or beneath it. The whole is always there.
func (v *view) has(ctx context.Context, a snapshot.Address) (bool, error) {
	for _, err := range v.Children(ctx, a) {
		if errors.Is(err, snapshot.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	if a.Volume() == "" && len(a.Key()) == 0 {
		return true, nil
	}
	_, err := v.entry(ctx, a)
	if errors.Is(err, snapshot.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// object finds an object.
func (v *view) object(ctx context.Context, a snapshot.Address) (kube.Entry, error) {
	e, err := v.Lookup(ctx, a)
	if err != nil {
		return kube.Entry{}, err
	}
	return kube.ParseEntry(e)
}

// file finds a file.
func (v *view) file(ctx context.Context, a snapshot.Address) (file, error) {
	e, err := v.entry(ctx, a)
	if err != nil {
		return file{}, err
	}
	return parseFile(e)
}

// file is an entry of a volume's map, taken apart.
type file struct {
	path     string // in the volume
	bytes    uint64
	contents []content.Ref
	files.Attributes
}

func parseFile(e tree.Entry) (file, error) {
	where, err := files.Path(e.Key)
	if err != nil {
		return file{}, err
	}
	attributes, contents, err := content.DecodeEntry(e)
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", where, err)
	}
	a, err := files.DecodeAttributes(attributes)
	if err != nil {
		return file{}, fmt.Errorf("%s: %w", where, err)
	}
	return file{where, e.Bytes, contents, a}, nil
}

// addressOf is the address of a change. That of the root folder of a volume is the volume's.
func addressOf(c snapshot.Change) string { return strings.TrimRight(c.Address.String(), "/\x00") }
