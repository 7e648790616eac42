package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/repo/storage"
)

// CheckOptions says how deep a check goes. The zero value looks for everything and reads what leads to
// the data, not the data.
type CheckOptions struct {
	ReadData bool   // read, open and hash the blobs of packs
	Subset   Subset // of the packs, with ReadData; the zero value: all of them
	Progress func(CheckProgress)
}

// CheckProgress is how far a check is.
type CheckProgress struct {
	Step  string // journal, objects, data, snapshots, in this order
	Nodes int    // that were read so far, in step snapshots
	Read  int64  // bytes of packs so far, in step data
	Total int64  // that Read will be in the end
}

// CheckReport says what a check looked at and what is wrong. No findings means that every live
// snapshot is whole, as far as the check looked.
type CheckReport struct {
	Entries     uint64    `json:"entries"`
	KeySlots    []string  `json:"keySlots"` // names of their objects
	Snapshots   int       `json:"snapshots"`
	Packs       int       `json:"packs"`
	Segments    int       `json:"segments"`
	Checkpoints int       `json:"checkpoints"` // in the bucket; only the newest one is needed
	Nodes       int       `json:"nodes"`       // distinct nodes and manifests read
	PacksRead   int       `json:"packsRead"`   // with ReadData, as is what follows
	Blobs       int       `json:"blobs"`       // opened and hashed
	BytesRead   int64     `json:"bytesRead"`   // of packs
	NeverRead   int       `json:"neverRead"`   // packs that no check known here has read and found right, this one included
	Orphans     int       `json:"orphans"`     // packs and segments that the journal does not know: leftovers of interrupted runs, or of runs that go on
	OrphanBytes int64     `json:"orphanBytes"` // that these take
	GivenUp     int       `json:"givenUp"`     // copies of blobs that the journal knows to be damaged; findings only where a snapshot has no other copy
	Findings    []Finding `json:"findings"`    // in no order

	touched map[blob.Ref]*roaring.Bitmap // findings that touch a blob or what is beneath it; without those that nothing touches
	lost    map[blob.Ref]bool            // blobs of these that have no good copy
}

// Finding is what is wrong with one object.
type Finding struct {
	Object    string               `json:"object"`              // name in the bucket; that of a folder if something must be in it and is not
	Problem   string               `json:"problem"`             // in words
	More      []string             `json:"more,omitempty"`      // further problems with the object, a few
	Others    int                  `json:"others,omitempty"`    // number of those that are not in words
	Snapshots []journal.SnapshotID `json:"snapshots,omitempty"` // that it touches
}

// Touching returns the findings, by their places in Findings, that touch a blob: something of it or
// beneath it cannot be read. Lost reports whether the blob itself cannot.
func (r *CheckReport) Touching(ref blob.Ref) (findings []int, lost bool) {
	damage, ok := r.touched[ref]
	if !ok {
		return nil, false
	}
	for number := range roaring.Values(damage) {
		findings = append(findings, int(number))
	}
	return findings, r.lost[ref]
}

// checker carries one check through its steps.
type checker struct {
	repo   *Repository
	data   bool // read the data as well
	tell   func(CheckProgress)
	report *CheckReport
	found  map[string]int // findings by object
	state  *journal.State // folded anew from entry 0

	sizes       []int64                    // that each entry must have; 0: not known, because the entry is damaged
	beyond      uint64                     // an entry that was listed and not folded; 0: none
	vouched     map[uint64]journal.Vouched // checkpoints that any entry vouches for
	checkpoints []storage.Info             // in the bucket

	suspects map[uint32]suspect   // packs with something wrong
	tried    map[journal.Copy]int // copies in suspects: their finding, or sound
	walking  journal.SnapshotID   // that is being walked
}

// suspect is a pack of which each blob is tried before it is relied on.
type suspect struct {
	missing bool // there is nothing to try
	finding int
}

// sound marks a copy that opens although its pack is suspect.
const sound = -1

// Check reads the whole journal anew, looks for every object that it names, reads every node that a
// live snapshot reaches and resolves every reference; with ReadData it reads, opens and hashes blobs as
// well. Damage goes into the report; the error is for a check that could not be done.
//
// A check may run beside backups and prunes: what it misses is damage only if it is still needed, and
// still missing, in a state that is still the newest.
func (r *Repository) Check(ctx context.Context, o CheckOptions) (report CheckReport, err error) {
	report = CheckReport{Findings: []Finding{}, KeySlots: []string{}, touched: map[blob.Ref]*roaring.Bitmap{}, lost: map[blob.Ref]bool{}}
	c := &checker{repo: r, data: o.ReadData, tell: o.Progress, report: &report, found: map[string]int{}, vouched: map[uint64]journal.Vouched{},
		suspects: map[uint32]suspect{}, tried: map[journal.Copy]int{}}
	if c.tell == nil {
		c.tell = func(CheckProgress) {}
	}
	c.tell(CheckProgress{Step: "journal"})
	if err := r.Sync(ctx); err != nil {
		return report, err
	}
	for _, step := range []func(context.Context) error{c.header, c.keySlots, c.journal, c.objects, c.segments, c.readCheckpoints} {
		if err := step(ctx); err != nil {
			return report, err
		}
	}
	if o.ReadData {
		if err := c.readPacks(ctx, o.Subset); err != nil {
			return report, err
		}
	}
	return report, c.snapshots(ctx)
}

// maxMore is how many further problems of one object are put in words.
const maxMore = 2

// find reports a damage and returns the number of its finding, one for each object.
func (c *checker) find(object, format string, args ...any) int {
	problem := fmt.Sprintf(format, args...)
	number, ok := c.found[object]
	if !ok {
		number = len(c.report.Findings)
		c.found[object] = number
		c.report.Findings = append(c.report.Findings, Finding{Object: object, Problem: problem})
		return number
	}
	f := &c.report.Findings[number]
	switch {
	case f.Problem == problem || slices.Contains(f.More, problem):
	case len(f.More) < maxMore:
		f.More = append(f.More, problem)
	default:
		f.Others++
	}
	return number
}

// flaw is a damage in the words of a finding.
type flaw string

func flawed(format string, args ...any) error { return flaw(fmt.Sprintf(format, args...)) }

func (f flaw) Error() string { return string(f) }

// Is tells who looks again before he believes it that this is damage.
func (f flaw) Is(target error) bool { return target == ErrDamaged }

// What is wrong with an object, in the words of a check and of a repair alike, so that what one finds is known again
// in the other.
const (
	itIsMissing   = "it is missing"
	notItsName    = "pack %s does not hash to its name"
	notItsSize    = "it has %d bytes instead of %d"
	blobsUnopened = "pack %s: of its %d blobs %d cannot be opened, %v among them"
	packUnread    = "pack %s: %v"
)

// problemOf is a damage without the word for it, for a report that lists nothing else.
func problemOf(err error) string {
	word := ": " + ErrDamaged.Error()
	return strings.TrimSuffix(strings.Replace(err.Error(), word+": ", ": ", 1), word)
}

// look examines an object and reports what is wrong with it. As long as the journal moves on beneath it,
// a flaw is none yet, see [Repository.certain].
func (c *checker) look(ctx context.Context, object string, examine func() error) (finding int, wrong bool, err error) {
	err = c.repo.certain(ctx, examine)
	if problem, ok := errors.AsType[flaw](err); ok {
		return c.find(object, "%s", problem), true, nil
	}
	return 0, false, err
}

// now reports whether something holds in the newest state that is known.
func (c *checker) now(holds func(*journal.State) bool) (yes bool) {
	c.repo.journal.View(func(s *journal.State) { yes = holds(s) })
	return yes
}
