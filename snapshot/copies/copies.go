// Package copies makes copies of snapshots in another repository: a second place for what must not be
// lost.
//
//	report, err := copies.Run(ctx, copies.Deps{From: here, To: there}, copies.Plan{Selection: copies.Selection{All: true}})
//
// Blobs have other names and are cut at other places in every repository, since both depend on its
// keys. So a copy is no transport of blobs: it is a backup whose source is a snapshot. Its entries are
// read in the order of their keys, their contents are verified as in a restore, and both are stored as
// a backup would store them, deduplicated with all that the destination has, copied or not.
//
// As a backup does, a copy builds on a parent: a snapshot that both repositories have.
//
//	source         parent ──────────── snapshot          what differs is found by comparing the two maps,
//	                  │ same ID            ┊             equal subtrees unread
//	destination    its copy ┄┄┄┄┄┄┄┄┄┄ its copy          what does not differ stays where it is, unread
//
// A copy has the ID of its original. So whoever copies again finds by the journals alone what is there,
// what was there and has been forgotten, and what the parent can be; nothing has to be remembered
// elsewhere. Each copy is committed by one journal entry, beside any other writer.
//
// Name, times, expiry, plan and results come along. What is held or forgotten in the one repository has
// no meaning in the other.
package copies

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
	"github.com/varve-dev/varve/snapshot/tree"
)

var (
	// ErrSame means that source and destination are one repository, or one the clone of the other.
	ErrSame = errors.New("source and destination are the same repository")
	// ErrVanished means that a snapshot was forgotten in the source while it was copied.
	ErrVanished = errors.New("it was forgotten in the source while it was copied")
)

// Deps are what a run works with.
type Deps struct {
	From, To *repo.Repository
	// Progress, if set, is told now and then how far the run is. It is called by one goroutine at a time.
	Progress func(Progress)
}

// Plan is what to copy.
type Plan struct {
	Selection
	DryRun bool // find out what is missing, and read and write no contents
}

// Status is what became of one snapshot.
type Status string

// What can become of a snapshot.
const (
	Copied    Status = "copied"
	Missing   Status = "missing"   // a dry run would copy it
	Present   Status = "present"   // it was there before
	Forgotten Status = "forgotten" // it was there, and has been forgotten
	Failed    Status = "failed"    // it is not there; others are, or are tried
)

// Outcome is what became of one snapshot.
type Outcome struct {
	ID      snapshot.ID      `json:"id"`
	Name    string           `json:"name,omitempty"` // as far as it was looked at
	Started time.Time        `json:"started"`
	Status  Status           `json:"status"`
	Parent  string           `json:"parent,omitempty"` // ID of the snapshot that it was compared with
	Entries uint64           `json:"entries"`          // objects and files that differ from the parent's, removed ones included
	Read    uint64           `json:"readBytes"`        // of contents, from the source; of a dry run: that would be read
	Written repo.WriterStats `json:"written"`
	Warning string           `json:"warning,omitempty"` // why it was copied without a parent, which is damaged
	Message string           `json:"error,omitempty"`
	Err     error            `json:"-"` // why it failed
}

// Report is what became of a run.
type Report struct {
	Snapshots []Outcome        `json:"snapshots"` // that were selected, oldest first
	Copied    int              `json:"copied"`
	Missing   int              `json:"missing"`
	Present   int              `json:"present"`
	Forgotten int              `json:"forgotten"`
	Failed    int              `json:"failed"`
	Read      uint64           `json:"readBytes"`
	Written   repo.WriterStats `json:"written"`
}

// Progress is how far a run is.
type Progress struct {
	Snapshot string // name of the one that is copied
	Number   int    // of it among those selected, from 1
	Of       int
	Entries  uint64 // of it that have been compared or copied
	Read     uint64 // bytes of contents, of the run
	Written  repo.WriterStats
}

// maxAttempts bounds how often a snapshot is begun again because what it built on was pruned meanwhile.
// What the first attempt stored is not stored again.
const maxAttempts = 3

// Run copies the selected snapshots that the destination does not have, oldest first. One that is damaged
// is in the report, and the others are copied all the same. An error ends the run; what the report says
// stands all the same.
func Run(ctx context.Context, d Deps, p Plan) (Report, error) {
	report := Report{Snapshots: []Outcome{}}
	if d.From.ID() == d.To.ID() {
		return report, fmt.Errorf("copy %s to %s: %w", d.From.URL(), d.To.URL(), ErrSame)
	}
	r := &run{Deps: d, dry: p.DryRun, planned: map[snapshot.ID]bool{},
		from: named{d.From, "source", false}, parents: named{d.From, "source", true}, to: named{d.To, "destination", true}}
	chosen, err := p.choose(ctx, r.from)
	if err != nil {
		return report, err
	}
	r.at.Of = len(chosen)
	for _, live := range chosen {
		o, err := r.take(ctx, live)
		report.add(o)
		if err != nil {
			return report, fmt.Errorf("copy snapshot %v: %w", live.ID, err)
		}
	}
	return report, nil
}

func (r *Report) add(o Outcome) {
	if o.Err != nil {
		o.Status, o.Message = Failed, o.Err.Error()
	}
	r.Snapshots = append(r.Snapshots, o)
	count := map[Status]*int{Copied: &r.Copied, Missing: &r.Missing, Present: &r.Present, Forgotten: &r.Forgotten, Failed: &r.Failed}
	*count[o.Status]++
	r.Read += o.Read
	r.Written = sum(r.Written, o.Written)
}

func sum(a, b repo.WriterStats) repo.WriterStats {
	return repo.WriterStats{Blobs: a.Blobs + b.Blobs, Bytes: a.Bytes + b.Bytes, NewBlobs: a.NewBlobs + b.NewBlobs,
		NewBytes: a.NewBytes + b.NewBytes, StoredBytes: a.StoredBytes + b.StoredBytes, Packs: a.Packs + b.Packs}
}

// run is one run.
type run struct {
	Deps
	dry     bool
	from    named
	parents named                // the source once more, to read parents from
	to      named                // read for parents alone
	planned map[snapshot.ID]bool // would be there, had the dry run been none

	mu sync.Mutex // guards what follows
	at Progress
}

// take copies one snapshot, unless that has been done. An error ends the run.
func (r *run) take(ctx context.Context, live journal.Live) (Outcome, error) {
	o := Outcome{ID: live.ID, Started: time.UnixMilli(live.Time).UTC()}
	r.tell(func(p *Progress) { p.Number, p.Snapshot, p.Entries = p.Number+1, "", 0 })
	if o.Status = r.there(live.ID); o.Status != "" {
		return o, nil
	}
	o.Err = r.attempt(ctx, live, &o)
	if o.Err == nil || ctx.Err() != nil {
		return o, o.Err
	}
	if r.To.Sync(ctx) == nil && r.there(live.ID) != "" { // somebody else copied it at the same time
		o.Status, o.Err = r.there(live.ID), nil
		return o, nil
	}
	if !isDamage(o.Err) {
		return o, o.Err
	}
	if errors.Is(r.From.Blame(ctx, live.ID, o.Err), repo.ErrForgotten) {
		o.Err = ErrVanished
	}
	return o, nil
}

// attempt copies a snapshot, again if what the copy builds on was pruned meanwhile or is damaged.
func (r *run) attempt(ctx context.Context, live journal.Live, o *Outcome) error {
	alone := false
	for attempt := 1; ; attempt++ {
		err := r.one(ctx, live, alone, o)
		if met, ok := errors.AsType[*parentDamage](err); ok && !alone && ctx.Err() == nil {
			alone, o.Warning = true, met.Error()
			continue
		}
		if !errors.Is(err, repo.ErrSuperseded) || attempt == maxAttempts {
			return err
		}
		if err := r.To.Sync(ctx); err != nil {
			return err
		}
	}
}

// there tells what the destination knows of a snapshot; nothing if it is new there.
func (r *run) there(id snapshot.ID) Status {
	if _, live := r.To.Snapshot(id); live {
		return Present
	}
	for _, f := range r.To.Forgotten() {
		if f.ID == id {
			return Forgotten
		}
	}
	return ""
}

func (r *run) tell(change func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.at)
	if r.Progress != nil {
		r.Progress(r.at)
	}
}

// isDamage tells what is wrong with one snapshot from what ends a run.
func isDamage(err error) bool {
	for _, e := range []error{repo.ErrDamaged, snapshot.ErrMalformed, content.ErrMalformed, tree.ErrMalformed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// parentDamage is damage in what a copy builds on. Without a parent the copy is made all the same: what could not be
// read in the destination, its writers do not rely on.
type parentDamage struct{ error }

func (d *parentDamage) Unwrap() error { return d.error }

// named is a repository that says in its errors which of the two it is.
type named struct {
	*repo.Repository
	role   string
	parent bool // it is read for the parent of a copy, or for the copy of that
}

// Read implements [content.Loader].
func (n named) Read(ctx context.Context, ref blob.Ref) ([]byte, error) {
	data, err := n.Repository.Read(ctx, ref)
	return data, n.say(err)
}

// ReadNode implements [tree.Loader].
func (n named) ReadNode(ctx context.Context, ref blob.Ref) (blob.Node, error) {
	node, err := n.Repository.ReadNode(ctx, ref)
	return node, n.say(err)
}

func (n named) say(err error) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("in the %s: %w", n.role, err)
	if n.parent && isDamage(err) {
		return &parentDamage{err}
	}
	return err
}
