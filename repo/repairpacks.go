package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/pack"
	"github.com/varve-dev/varve/repo/seal"
	"github.com/varve-dev/varve/repo/storage"
)

// PacksOptions say which packs to repair, and how.
type PacksOptions struct {
	RepairOptions
	Packs    []string // names of packs or their objects, or beginnings of four digits or more; none: all
	ReadData bool     // read all bytes of the packs; else only those of packs that are missing or of a wrong size
}

// PacksRepair says what a repair of packs found and did. No packs means that nothing had to be done.
type PacksRepair struct {
	Looked int          `json:"looked"` // packs, at least at their sizes
	Packs  []PackRepair `json:"packs"`
}

// PackRepair is what became of one damaged pack.
type PackRepair struct {
	Pack    string `json:"pack"`
	Object  string `json:"object"`  // where its bytes are
	Problem string `json:"problem"` // in words
	Saved   int    `json:"saved"`   // blobs that were copied into a new pack
	Bytes   int64  `json:"bytes"`   // of these, as they were stored
	Lost    int    `json:"lost"`    // blobs that do not open and have no other copy, as far as their names are known
	New     string `json:"new,omitempty"`
}

// RepairPacks saves what packs still hold that are missing, cut short or rotten. Each blob that opens and
// hashes to its name is stored in a new pack; by the same entry that adds it, the old pack is recorded as
// damaged. The old object stays where it is until a prune has dropped the pack. Where only single blobs
// of a pack are bad, they are recorded and the pack stays in use.
//
// A pack that is recorded as damaged, but is there, is looked at again: whoever finds a lost pack in a
// copy of the bucket puts it back and repairs again. So does whoever repairs nodes: they name what lies in
// packs without a table, which the next repair then saves.
func (r *Repository) RepairPacks(ctx context.Context, o PacksOptions) (PacksRepair, error) {
	x := &packsRepair{repo: r, PacksOptions: o, report: &PacksRepair{Packs: []PackRepair{}}}
	err := r.Sync(ctx)
	if err == nil {
		err = x.suspect(ctx)
	}
	done, total := int64(0), int64(0)
	for _, p := range x.suspects {
		total += p.Size
	}
	for _, p := range x.suspects {
		if err == nil {
			err = x.pack(ctx, p)
		}
		if done += p.Size; o.Progress != nil {
			o.Progress(done, total)
		}
	}
	if err != nil {
		return *x.report, fmt.Errorf("repair packs: %w", err)
	}
	return *x.report, r.refresh(ctx)
}

// packsRepair carries one repair through its steps.
type packsRepair struct {
	PacksOptions
	repo     *Repository
	report   *PacksRepair
	suspects []numbered
	names    *naming // of what is in suspects without a table; nil: nobody has asked yet
}

// suspect finds the packs to be read: those named, else those of which the listing tells that something
// is wrong, else all.
func (x *packsRepair) suspect(ctx context.Context) error {
	var all []numbered
	recorded := map[uint32]bool{}
	x.repo.journal.View(func(s *journal.State) {
		for n, p := range s.Packs {
			if p.Status != journal.DroppedPack {
				all = append(all, numbered{uint32(n), p})
				recorded[uint32(n)] = s.IsDamaged(journal.Copy{Pack: uint32(n)})
			}
		}
	})
	if len(x.Packs) > 0 {
		return x.choose(all)
	}
	x.report.Looked = len(all)
	sizes := map[string]int64{}
	for _, folder := range []string{journal.PackFolder, journal.Folder} {
		for info, err := range x.repo.bucket.List(ctx, folder, "") {
			if err != nil {
				return fmt.Errorf("list %s: %w", folder, err)
			}
			sizes[info.Name] = info.Size
		}
	}
	for _, p := range all {
		name, base := p.Object()
		size, there := sizes[name]
		odd := !there || (base == 0 && size != p.Size) || size < base+p.Size
		if recorded[p.number] && there || !recorded[p.number] && (odd || x.ReadData) {
			x.suspects = append(x.suspects, p)
		}
	}
	first := func(p numbered) int { // nodes that come back name what lies in others
		if recorded[p.number] {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(x.suspects, func(a, b numbered) int { return first(a) - first(b) })
	return nil
}

// choose finds the packs that are named.
func (x *packsRepair) choose(all []numbered) error {
	for _, word := range x.Packs {
		digits := strings.ToLower(word[strings.LastIndex(word, "/")+1:])
		var found []numbered
		for _, p := range all {
			if len(digits) >= 4 && strings.HasPrefix(p.Name.String(), digits) {
				found = append(found, p)
			}
		}
		if len(found) != 1 {
			return fmt.Errorf("%q is the name of %d packs: %w", word, len(found), ErrNoPack)
		}
		if !slices.ContainsFunc(x.suspects, func(p numbered) bool { return p.number == found[0].number }) {
			x.suspects = append(x.suspects, found[0])
		}
	}
	x.report.Looked = len(x.suspects)
	return nil
}

// ErrNoPack means that a name is not that of exactly one pack.
var ErrNoPack = errors.New("no such pack")

// pack repairs one pack. Should a prune get in between, what the repair found is found again.
func (x *packsRepair) pack(ctx context.Context, p numbered) error {
	for attempt := 1; ; attempt++ {
		v, err := x.open(ctx, p)
		if err == nil {
			err = v.commit(ctx)
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, errMoved) || attempt == maxUnforgets {
			return fmt.Errorf("pack %s: %w", p.Name.Short(), err)
		}
		if err := x.repo.Sync(ctx); err != nil {
			return err
		}
	}
}

// salvage is one damaged pack on its way into a new one.
type salvage struct {
	*packsRepair
	numbered
	data   []byte
	whole  bool           // the bytes are right, so that blobs which open can stay where they are
	keys   []opener       // that may fit
	saved  [][]blob.Row   // beside keys: what opens with them and goes into the new pack
	named  bool           // what lies in it is known by names only
	others []journal.Copy // good ones of its blobs, because of which these are not saved
	bad    []journal.Copy // that do not open
	result PackRepair
}

// open reads a pack and tries every blob of it.
func (x *packsRepair) open(ctx context.Context, p numbered) (*salvage, error) {
	v := &salvage{packsRepair: x, numbered: p}
	if err := v.read(ctx); err != nil {
		return nil, err
	}
	if err := v.findKeys(ctx); err != nil {
		return nil, err
	}
	rows, err := v.table(ctx)
	if err != nil {
		return nil, err
	}
	x.repo.packs.forgetAll() // what was in memory says nothing of copies that are in the bucket
	for _, row := range rows {
		if err := v.try(ctx, row); err != nil {
			return nil, err
		}
	}
	switch {
	case v.result.Problem != "":
	case len(v.bad) > 0:
		v.result.Problem = fmt.Sprintf(blobsUnopened, v.Name.Short(), len(rows), len(v.bad), v.bad[0].Blob)
	default:
		v.result.Problem = fmt.Sprintf(notItsName, v.Name.Short())
	}
	return v, nil
}

// try opens one blob and puts it into the new pack, if it cannot stay and has no other good copy.
func (v *salvage) try(ctx context.Context, row blob.Row) error {
	fits, broken := v.opens(row)
	if broken != nil && !isDamage(broken) {
		return broken
	}
	if broken == nil && v.whole {
		return nil
	}
	readable, live, err := v.elsewhere(ctx, row.Ref())
	if err != nil {
		return err
	}
	if broken == nil && !live {
		v.saved[fits] = append(v.saved[fits], row)
		v.result.Saved++
		v.result.Bytes += int64(row.Stored)
	}
	if broken != nil {
		v.bad = append(v.bad, journal.Copy{Blob: row.Ref(), Pack: v.number})
		if !readable {
			v.result.Lost++
		}
	}
	return nil
}

// readings bounds how often a pack is read that is wrong each time in another way.
const readings = 4

// read reads what is there of the pack. Bytes that were spoiled on their way are not taken for damage: what
// lies in the bucket is wrong only if it reads the same twice.
func (v *salvage) read(ctx context.Context) (err error) {
	name, base := v.Object()
	v.result = PackRepair{Pack: v.Name.String(), Object: name}
	recorded := false
	v.repo.journal.View(func(s *journal.State) { recorded = s.IsDamaged(journal.Copy{Pack: v.number}) })
	var before []byte
	for reading := 1; reading <= 2 || !bytes.Equal(v.data, before); reading++ {
		if reading > readings {
			return fmt.Errorf("read %s: it reads otherwise each time, so that nothing can be said of it", name)
		}
		before = v.data
		v.data, err = v.repo.bucket.Get(ctx, name, base, v.Size)
		if errors.Is(err, storage.ErrNotFound) {
			v.result.Problem = itIsMissing
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if seal.HashOf(v.data) == v.Name {
			v.whole = !recorded
			if recorded {
				v.result.Problem = "it was lost and is there again"
			}
			return nil
		}
	}
	if int64(len(v.data)) < v.Size {
		v.result.Problem = fmt.Sprintf(notItsSize, len(v.data), v.Size)
	}
	return nil
}

// unread takes for the problem what keeps the pack from being read, unless that is explained.
func (v *salvage) unread(err error) {
	if err != nil && v.result.Problem == "" {
		v.result.Problem = fmt.Sprintf(packUnread, v.Name.Short(), err)
	}
}

// opens tries to open one blob and returns the number of the keys that fit.
func (v *salvage) opens(row blob.Row) (fits int, err error) {
	if int64(row.Offset)+int64(row.Stored) > int64(len(v.data)) {
		return 0, fmt.Errorf("blob %v is beyond the end: %w", row.Ref(), errDamagedPack)
	}
	err = fmt.Errorf("blob %v: its key is lost: %w", row.Ref(), errDamagedPack)
	for i, k := range v.keys {
		if _, err = v.repo.packs.reader.OpenBlob(k.keys, row, v.data[row.Offset:][:row.Stored]); err == nil {
			return i, nil
		}
	}
	return 0, err
}

// opener is the start of a pack, and the session keys in it.
type opener struct {
	head pack.Head
	keys []seal.SessionKey
}

// siblings is how many packs before and after one are asked for its keys: those of one session have the
// same, and were added close to each other.
const siblings = 16

// findKeys reads the pack's own session keys or, if they are damaged, those of its neighbours.
func (v *salvage) findKeys(ctx context.Context) error {
	if len(v.data) == 0 {
		return nil
	}
	err := v.unwrap(v.repo.packs.reader.Head(v.data))
	if err == nil || !isDamage(err) {
		return err
	}
	v.unread(err)
	var near []journal.Pack
	v.repo.journal.View(func(s *journal.State) {
		for n := max(0, int(v.number)-siblings); n < min(len(s.Packs), int(v.number)+siblings+1); n++ {
			if n != int(v.number) && s.Packs[n].Status != journal.DroppedPack {
				near = append(near, s.Packs[n])
			}
		}
	})
	for _, p := range near {
		if err := v.unwrap(v.repo.readHead(ctx, p)); err != nil && !isDamage(err) {
			return err
		}
	}
	return nil
}

// unwrap adds the keys of a head that was read, if it was.
func (v *salvage) unwrap(head pack.Head, err error) error {
	if err != nil {
		return err
	}
	keys, err := v.repo.packs.reader.SessionKeys(head)
	if err == nil {
		v.keys, v.saved = append(v.keys, opener{head, keys}), append(v.saved, nil)
	}
	return err
}

// table returns the rows of the pack: from itself, else from the journal, else from the index with the
// names that snapshots know.
func (v *salvage) table(ctx context.Context) ([]blob.Row, error) {
	rows, err := v.repo.packs.reader.Rows(v.data)
	if err == nil {
		return rows, nil
	}
	v.unread(err)
	if rows, err := blob.DecodeRows(v.Rows); err == nil && len(rows) > 0 {
		return rows, nil
	}
	if v.names == nil {
		v.names = newNaming(v.repo, v.suspects)
	}
	v.named = true
	return v.names.rowsOf(ctx, v.number)
}

// elsewhere reports whether another pack has a good copy of a blob, as the bucket says by now, and whether a live
// pack has: from a retired one it can be read, and the next prune takes that back, but it is nothing to rely on.
func (v *salvage) elsewhere(ctx context.Context, ref blob.Ref) (readable, live bool, err error) {
	for _, f := range v.repo.copies(ref) { // those in live packs first
		if f.number == v.number {
			continue
		}
		_, err := v.repo.packs.open(ctx, f)
		switch {
		case err == nil && f.pack.Status == journal.LivePack:
			v.others = append(v.others, journal.Copy{Blob: ref, Pack: f.number})
			return true, true, nil
		case err == nil:
			return true, false, nil
		case !isDamage(err):
			return false, false, err
		}
	}
	return false, false, nil
}

// commit stores the new pack and says, in one entry, that it is there and that the old one is damaged.
func (v *salvage) commit(ctx context.Context) error {
	damaged := []journal.Copy{{Pack: v.number}}
	if v.whole {
		damaged = v.bad
	}
	v.repo.journal.View(func(s *journal.State) { damaged = unrecorded(s, damaged) })
	if len(damaged) == 0 && v.result.Saved == 0 {
		return nil
	}
	var err error
	switch {
	case v.DryRun:
	case v.whole:
		err = v.repo.MarkDamaged(ctx, damaged)
	default:
		err = v.replace(ctx, damaged)
	}
	if err == nil {
		v.report.Packs = append(v.report.Packs, v.result)
	}
	return err
}

func (v *salvage) replace(ctx context.Context, damaged []journal.Copy) error {
	var added []journal.Added
	if v.result.Saved > 0 {
		made, err := v.join()
		if err == nil {
			err = v.repo.bucket.Create(ctx, journal.PackName(made.Name), made.Data)
		}
		if err != nil {
			return fmt.Errorf("store what is saved of it: %w", err)
		}
		added = []journal.Added{{Name: made.Name, Size: int64(len(made.Data)), Rows: blob.AppendRows(nil, made.Rows)}}
		v.result.New = made.Name.String()
	}
	segment, _, err := v.repo.storeSegment(ctx, added)
	if err != nil {
		return err
	}
	return v.repo.change(ctx, func(s *journal.State) (e journal.Entry, err error) {
		if s.Packs[v.number].Status == journal.DroppedPack {
			return e, errSettled
		}
		if v.overtaken(s) {
			return e, errMoved
		}
		left := unrecorded(s, damaged)
		if len(left)+len(added) == 0 {
			return e, errSettled
		}
		e, err = additions(s, added, segment)
		if errors.Is(err, ErrSuperseded) { // a prune has taken the new pack for an orphan; another has another name
			return e, errMoved
		}
		e.Damaged = left
		return e, err
	})
}

// overtaken reports whether a blob that is not saved may need it at this state.
func (v *salvage) overtaken(s *journal.State) bool {
	for _, c := range v.others {
		if !s.Usable(c.Pack) || s.IsDamaged(c) {
			return true
		}
	}
	return v.named && v.names.overtaken(s)
}

// join makes the new pack of the very bytes that were saved.
func (v *salvage) join() (pack.Pack, error) {
	joiner := pack.NewJoiner(v.repo.keys)
	for i, rows := range v.saved {
		if len(rows) == 0 {
			continue
		}
		source, err := pack.Remains(v.data, rows, v.keys[i].head)
		if err != nil {
			return pack.Pack{}, err
		}
		if !joiner.Take(source, rows) {
			return pack.Pack{}, errors.New("its keys do not fit into one pack")
		}
	}
	return joiner.Finish()
}
