package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// CheckOptions says how deep a check goes.
type CheckOptions struct {
	ReadData bool                    // read, open and hash every blob of every pack
	Progress func(done, total int64) // bytes of packs read so far; may be nil
}

// CheckReport says what a check looked at and what is wrong. No findings means that every live
// snapshot is whole, as far as the check looked.
type CheckReport struct {
	Entries     uint64    `json:"entries"`
	Snapshots   int       `json:"snapshots"`
	Packs       int       `json:"packs"`
	Segments    int       `json:"segments"`
	Nodes       int       `json:"nodes"`       // distinct nodes and manifests read
	Blobs       int       `json:"blobs"`       // blobs opened and hashed with ReadData
	BytesRead   int64     `json:"bytesRead"`   // of packs, with ReadData
	Orphans     int       `json:"orphans"`     // objects that no entry names: leftovers of interrupted runs, harmless
	OrphanBytes int64     `json:"orphanBytes"` // that these take
	Findings    []Finding `json:"findings"`
}

// Finding is one damage.
type Finding struct {
	Object    string               `json:"object"`              // name in the bucket
	Problem   string               `json:"problem"`             // in words
	Snapshots []journal.SnapshotID `json:"snapshots,omitempty"` // that it touches, as far as known
}

// checker carries one check through its steps.
type checker struct {
	repo   *Repository
	state  *journal.State // folded anew from entry 0
	report *CheckReport

	sizes    map[string]int64             // of the objects in the bucket, under packs/ and index/
	badPacks map[uint32]int               // packs that are missing or wrong as a whole, with their finding
	badCopy  map[journal.Copy]int         // copies that do not open, with their finding
	visited  map[blob.Ref]*roaring.Bitmap // blobs that were walked, with what is damaged at or beneath them
}

// Check reads the whole journal anew, looks for every object that it names, reads every node that a
// live snapshot reaches and resolves every reference; with ReadData it reads, opens and hashes every
// blob as well. Damage goes into the report; the error is for a check that could not be done.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (CheckReport, error) {
	report := CheckReport{Findings: []Finding{}}
	c := &checker{repo: r, report: &report, sizes: map[string]int64{}, badPacks: map[uint32]int{},
		badCopy: map[journal.Copy]int{}, visited: map[blob.Ref]*roaring.Bitmap{}}
	if err := r.Sync(ctx); err != nil {
		return report, err
	}
	for _, step := range []func(context.Context) error{c.keySlots, c.journal, c.objects, c.segments, c.checkpoint} {
		if err := step(ctx); err != nil {
			return report, err
		}
	}
	if o.ReadData {
		if err := c.data(ctx, o.Progress); err != nil {
			return report, err
		}
	}
	return report, c.snapshots(ctx)
}

// find reports a damage and returns the number of its finding.
func (c *checker) find(object, format string, args ...any) int {
	c.report.Findings = append(c.report.Findings, Finding{Object: object, Problem: fmt.Sprintf(format, args...)})
	return len(c.report.Findings) - 1
}

// keySlots looks at the slots as far as that is possible without their passwords: each is named by the
// hash of its bytes.
func (c *checker) keySlots(ctx context.Context) error {
	for info, err := range c.repo.bucket.List(ctx, keyFolder, "") {
		if err != nil {
			return fmt.Errorf("list %s: %w", keyFolder, err)
		}
		slot, err := c.repo.bucket.Get(ctx, info.Name, 0, seal.MaxSlot+1)
		if err != nil {
			return fmt.Errorf("read %s: %w", info.Name, err)
		}
		if keyFolder+seal.HashOf(slot).String() != info.Name {
			c.find(info.Name, "the key slot does not hash to its name: its password no longer opens the repository")
		}
	}
	return nil
}

// journal folds all entries from the first, whatever cache or checkpoint the repository was opened
// from, and compares the result.
func (c *checker) journal(ctx context.Context) error {
	fresh := journal.New(c.repo.bucket, c.repo.keys, new(journal.State))
	err := fresh.Sync(ctx)
	fresh.View(func(s *journal.State) { c.state = s })
	c.report.Entries = c.state.Next
	damaged := func(why error) bool { return errors.Is(err, why) }
	if slices.ContainsFunc([]error{journal.ErrDamaged, journal.ErrGap, journal.ErrRolledBack, journal.ErrVersion}, damaged) {
		c.find(journal.Name(c.state.Next), "%v", err)
		return c.compareState(ctx) // what lies beyond the head is clear
	} else if err != nil {
		return err
	}
	if err := journal.EntriesBeyond(ctx, c.repo.bucket, c.state.Next); errors.Is(err, journal.ErrGap) {
		c.find(journal.Name(c.state.Next), "%v", err)
	} else if err != nil {
		return err
	}
	if err := c.repo.Sync(ctx); err != nil { // the index must know what a backup has committed since
		return err
	}
	return c.compareState(ctx)
}

func (c *checker) compareState(ctx context.Context) (err error) {
	folded, err := c.state.Encode()
	if err != nil {
		return err
	}
	c.repo.journal.View(func(s *journal.State) {
		var known []byte
		if known, err = s.Encode(); err == nil && s.Next == c.state.Next && !bytes.Equal(known, folded) {
			c.find(journal.Folder, "the local cache or a checkpoint tells another state than the entries")
		}
	})
	return errors.Join(err, ctx.Err())
}

// objects compares the listing of the bucket with what the state names.
func (c *checker) objects(ctx context.Context) error {
	for _, folder := range []string{journal.PackFolder, journal.SegmentFolder} {
		for info, err := range c.repo.bucket.List(ctx, folder, "") {
			if err != nil {
				return fmt.Errorf("list %s: %w", folder, err)
			}
			c.sizes[info.Name] = info.Size
		}
	}
	named := map[string]bool{}
	for number, p := range c.state.Packs {
		if p.Status == journal.DroppedPack {
			continue
		}
		c.report.Packs++
		if p.Inline > 0 {
			continue // its entry was read with the journal; its bytes are a matter of data
		}
		named[journal.PackName(p.Name)] = true
		if finding, ok := c.present(journal.PackName(p.Name), p.Size); !ok {
			c.badPacks[uint32(number)] = finding
		}
	}
	for _, g := range c.state.Segments {
		c.report.Segments++
		named[journal.SegmentName(g.Name)] = true
		c.present(journal.SegmentName(g.Name), g.Size)
	}
	for name, size := range c.sizes {
		if !named[name] {
			c.report.Orphans++
			c.report.OrphanBytes += size
		}
	}
	return nil
}

// present compares an object's size with what the state says.
func (c *checker) present(name string, size int64) (finding int, ok bool) {
	got, there := c.sizes[name]
	if !there {
		return c.find(name, "it is missing"), false
	}
	if got != size {
		return c.find(name, "it has %d bytes instead of %d", got, size), false
	}
	return 0, true
}

// segments reads every segment, which the local cache may hide.
func (c *checker) segments(ctx context.Context) error {
	for _, g := range c.state.Segments {
		if _, ok := c.sizes[journal.SegmentName(g.Name)]; !ok {
			continue
		}
		_, err := c.repo.fetchSegment(ctx, g)
		if errors.Is(err, ErrDamaged) {
			c.find(journal.SegmentName(g.Name), "%v", err)
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) checkpoint(ctx context.Context) error {
	v := c.state.Checkpoint
	if v.Next == 0 {
		return nil
	}
	_, err := journal.ReadCheckpoint(ctx, c.repo.bucket, c.repo.keys, v)
	if errors.Is(err, journal.ErrDamaged) || errors.Is(err, storage.ErrNotFound) {
		c.find(journal.CheckpointName(v.Next), "%v", err)
		return nil
	}
	if errors.Is(err, journal.ErrRules) { // another version wrote it, for itself
		return nil
	}
	return err
}

// snapshots walks everything that live snapshots reach, each distinct node once, and adds to the
// findings the snapshots that they touch.
func (c *checker) snapshots(ctx context.Context) error {
	for _, l := range c.state.Snapshots {
		c.report.Snapshots++
		damage, err := c.walk(ctx, blob.Ref{Class: blob.Manifest, ID: l.Manifest})
		if err != nil {
			return err
		}
		for _, number := range damage.ToArray() {
			f := &c.report.Findings[number]
			f.Snapshots = append(f.Snapshots, l.ID)
		}
	}
	return nil
}

// walk returns the findings that touch a blob or anything beneath it.
func (c *checker) walk(ctx context.Context, ref blob.Ref) (*roaring.Bitmap, error) {
	if known, ok := c.visited[ref]; ok {
		return known, nil
	}
	damage := c.copiesDamage(ref)
	c.visited[ref] = damage
	if !damage.IsEmpty() || !ref.Class.HasLinks() {
		return damage, nil
	}
	n, err := c.repo.ReadNode(ctx, ref)
	if errors.Is(err, ErrDamaged) {
		damage.AddInt(c.find(ref.String(), "%v", err))
		return damage, nil
	}
	if err != nil {
		return nil, err
	}
	c.report.Nodes++
	for _, l := range n.Links {
		beneath, err := c.walk(ctx, l)
		if err != nil {
			return nil, err
		}
		damage.Or(beneath)
	}
	return damage, nil
}

// copiesDamage returns why no good copy of a blob is left, or nothing if there is one.
func (c *checker) copiesDamage(ref blob.Ref) *roaring.Bitmap {
	damage := roaring.New()
	for _, f := range c.repo.copies(ref) {
		pack, badPack := c.badPacks[f.number]
		single, badCopy := c.badCopy[journal.Copy{Blob: ref, Pack: f.number}]
		switch {
		case badPack:
			damage.AddInt(pack)
		case badCopy:
			damage.AddInt(single)
		default:
			return roaring.New()
		}
	}
	if damage.IsEmpty() {
		damage.AddInt(c.find(ref.String(), "it is in no pack, and a snapshot needs it"))
	}
	return damage
}

// data reads every pack and every blob in it.
func (c *checker) data(ctx context.Context, progress func(done, total int64)) error {
	total := int64(0)
	for _, p := range c.state.Packs {
		if p.Status != journal.DroppedPack {
			total += p.Size
		}
	}
	for number, p := range c.state.Packs {
		if _, bad := c.badPacks[uint32(number)]; bad || p.Status == journal.DroppedPack {
			continue
		}
		if err := c.pack(ctx, uint32(number), p); err != nil {
			return err
		}
		c.report.BytesRead += p.Size
		if progress != nil {
			progress(c.report.BytesRead, total)
		}
	}
	return nil
}

// pack reads one pack and everything in it. A pack whose bytes are not those of its name may still have
// blobs that open, so each is tried.
func (c *checker) pack(ctx context.Context, number uint32, p journal.Pack) error {
	name, base := p.Object()
	data, err := c.repo.bucket.Get(ctx, name, base, p.Size)
	if err != nil && !errors.Is(err, storage.ErrNotFound) {
		return fmt.Errorf("read %s: %w", name, err)
	}
	whole := seal.HashOf(data) == p.Name
	reader := c.repo.packs.reader
	rows, err := reader.Rows(data)
	var keys []seal.SessionKey
	if err == nil {
		keys, _, err = reader.SessionKeys(data)
	}
	if err != nil {
		c.badPacks[number] = c.find(name, "pack %s: %v", p.Name.Short(), err)
		return nil
	}
	rot := 0
	if !whole {
		rot = c.find(name, "pack %s does not hash to its name", p.Name.Short())
	}
	for _, row := range rows {
		c.report.Blobs++
		copied := journal.Copy{Blob: row.Ref(), Pack: number}
		known := func(f found) bool { return f.number == number && f.row == row }
		if _, err := reader.OpenBlob(keys, row, data[row.Offset:][:row.Stored]); err != nil {
			if whole {
				rot = c.find(name, "%v", err)
			}
			c.badCopy[copied] = rot
		} else if !c.state.IsDamaged(copied) && !slices.ContainsFunc(c.repo.copies(row.Ref()), known) {
			c.find(name, "the index does not know blob %v where the pack has it", row.Ref())
		}
	}
	return nil
}
