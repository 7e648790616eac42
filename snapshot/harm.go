package snapshot

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot/tree"
)

// Damage tells by number which findings of a check touch a blob or what is beneath it, and whether the
// blob itself is lost. A *repo.CheckReport is one.
type Damage interface {
	Touching(ref blob.Ref) (findings []int, lost bool)
}

// Harm is what a finding does to snapshots.
type Harm struct {
	Namespaces []string // in which something is touched, sorted; volumes count by the namespace of their claim
	Items      []Harmed // objects, files and other parts that are touched, the first ones of all snapshots
	Count      uint64   // of all of them, in all snapshots together
}

// Harmed is something in a snapshot that cannot be read as a whole.
type Harmed struct {
	Name string // its address, or in words what else of a snapshot it is
	More uint64 // entries that follow it whose names are lost as well
}

// Harms walks what of the live snapshots is touched by damage, and nothing else, and returns the harm of
// the findings by their numbers. Of each it names at most the given number of items and counts the others.
// The error is for snapshots that could not be walked: their harm is not known, that of the others is.
func Harms(ctx context.Context, r Repository, d Damage, most int) (map[int]*Harm, error) {
	h := &harms{repo: r, damage: d, most: most, all: map[int]*Harm{}, walked: map[walkedMap]map[int]uint64{}}
	var failed []error
	for _, live := range r.Snapshots() {
		findings, lost := d.Touching(blob.Ref{Class: blob.Manifest, ID: live.Manifest})
		if lost {
			h.note(findings, Harmed{Name: "all of snapshot " + live.ID.String()}, 1)
		} else if len(findings) > 0 {
			failed = append(failed, h.snapshot(ctx, live))
		}
	}
	return h.all, errors.Join(failed...)
}

type harms struct {
	repo   Repository
	damage Damage
	most   int
	all    map[int]*Harm
	walked map[walkedMap]map[int]uint64 // how much of a map each finding touches
}

// walkedMap is a map that several snapshots may share, under the name that it has in them.
type walkedMap struct {
	root blob.Ref
	name string
}

// note adds items to some findings: the one that is named, and how many it stands for.
func (h *harms) note(findings []int, i Harmed, count uint64) {
	for _, number := range findings {
		of := h.of(number)
		of.Count += count
		if len(of.Items) < h.most && !slices.Contains(of.Items, i) {
			of.Items = append(of.Items, i)
		}
	}
}

func (h *harms) of(finding int) *Harm {
	if h.all[finding] == nil {
		h.all[finding] = new(Harm)
	}
	return h.all[finding]
}

func (h *harms) noteNamespace(findings []int, namespace string) {
	for _, number := range findings {
		of := h.of(number)
		if at, known := slices.BinarySearch(of.Namespaces, namespace); !known && namespace != "" {
			of.Namespaces = slices.Insert(of.Namespaces, at, namespace)
		}
	}
}

func (h *harms) wanted(ref blob.Ref) (within, lost bool) {
	findings, lost := h.damage.Touching(ref)
	return len(findings) > 0, lost
}

func (h *harms) snapshot(ctx context.Context, live journal.Live) error {
	s, err := Load(ctx, h.repo, live)
	if err != nil {
		return err
	}
	for _, part := range []struct {
		what string
		Part
	}{{"plan", s.Manifest.Plan}, {"discovery data", s.Manifest.Discovery}, {"results", s.Manifest.Results}, {"list of sparse bundles", s.Sparse}} {
		findings, _ := h.damage.Touching(part.Blob)
		h.note(findings, Harmed{Name: part.what}, 1)
	}
	findings, _ := h.damage.Touching(s.DigestTable.Ref)
	h.note(findings, Harmed{Name: "digests"}, 1)
	if err := h.objects(ctx, s); err != nil {
		return fmt.Errorf("objects of snapshot %s: %w", s.ID, err)
	}
	return h.volumes(ctx, s)
}

func (h *harms) objects(ctx context.Context, s *Snapshot) error {
	return h.entries(ctx, walkedMap{s.Manifest.Objects.Ref, objectsWord}, s.Objects(), func(findings []int, key []byte) string {
		if len(key) == 0 {
			return objectsWord
		}
		if words := bytes.Split(key, []byte{0}); len(words) == 4 {
			h.noteNamespace(findings, string(words[2]))
		}
		return ObjectAddress(key).String()
	})
}

func (h *harms) volumes(ctx context.Context, s *Snapshot) error {
	for f, err := range s.volumes().Search(ctx, h.wanted) {
		if err != nil {
			return fmt.Errorf("volumes of snapshot %s: %w", s.ID, err)
		}
		if f.Lost > 0 {
			findings, _ := h.damage.Touching(f.Refs[0])
			h.note(findings, Harmed{Name: volumesWord + "/" + string(f.Entry.Key), More: f.Lost - 1}, f.Lost)
			continue
		}
		v, err := decodeVolume(f.Entry)
		if err != nil {
			return fmt.Errorf("volumes of snapshot %s: %q: %w: %w", s.ID, f.Entry.Key, ErrMalformed, err)
		}
		for _, ref := range f.Refs {
			findings, _ := h.damage.Touching(ref)
			h.noteNamespace(findings, v.Namespace)
		}
		whole := volumesWord + "/" + v.Name
		findings, _ := h.damage.Touching(v.sparse.Blob)
		h.note(findings, Harmed{Name: "list of sparse bundles of " + whole}, 1)
		err = h.entries(ctx, walkedMap{v.Root.Ref, whole}, s.Files(v), func(_ []int, key []byte) string {
			if len(key) == 0 || key[0] == 0 { // the volume's own entry has a zero byte for its key
				return whole
			}
			return FileAddress(v.Name, key).String()
		})
		if err != nil {
			return fmt.Errorf("%s of snapshot %s: %w", whole, s.ID, err)
		}
	}
	return nil
}

// entries notes what of a map is touched, and calls address for how each item is named. What was walked
// for one snapshot is only counted again for another.
func (h *harms) entries(ctx context.Context, what walkedMap, m *tree.Map, address func(findings []int, key []byte) string) error {
	if counts, again := h.walked[what]; again {
		for number, count := range counts {
			h.of(number).Count += count
		}
		return nil
	}
	counts := map[int]uint64{}
	for f, err := range m.Search(ctx, h.wanted) {
		if err != nil {
			return err
		}
		findings := h.touching(f.Refs)
		item, count := Harmed{Name: address(findings, f.Entry.Key)}, max(f.Lost, 1)
		if f.Lost > 0 {
			item.More = f.Lost - 1
		}
		h.note(findings, item, count)
		for _, number := range findings {
			counts[number] += count
		}
	}
	h.walked[what] = counts
	return nil
}

// touching returns the findings that touch any of some blobs, each once.
func (h *harms) touching(refs []blob.Ref) (all []int) {
	for _, ref := range refs {
		findings, _ := h.damage.Touching(ref)
		all = append(all, findings...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}
