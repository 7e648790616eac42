package copies

import (
	"context"
	"errors"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/repo/journal"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/content"
)

// copying is one attempt to copy one snapshot.
type copying struct {
	*run
	alone   bool // build on nothing
	out     *Outcome
	source  *snapshot.Snapshot
	volumes []snapshot.Volume
	parent  *snapshot.Snapshot // in the source; nil if there is none
	copied  *snapshot.Snapshot // the parent's copy; nil in a dry run

	writer *repo.Writer // nil in a dry run
	reader *content.Reader
	draft  snapshot.Draft
}

// one makes one attempt, alone or with a parent.
func (r *run) one(ctx context.Context, live journal.Live, alone bool, o *Outcome) (err error) {
	c := &copying{run: r, alone: alone, out: o, reader: content.NewReader(r.from)}
	o.Entries, o.Read, o.Parent = 0, 0, ""
	if c.source, err = snapshot.Load(ctx, r.from, live); err != nil {
		return err
	}
	o.Name = c.source.Name
	r.tell(func(p *Progress) { p.Snapshot, p.Entries = o.Name, 0 })
	if c.volumes, err = c.source.Volumes(ctx); err != nil {
		return err
	}
	if err := c.findParent(ctx); err != nil {
		return err
	}
	if r.dry {
		if err := c.maps(ctx, c.estimate); err != nil {
			return err
		}
		r.planned[live.ID], o.Status = true, Missing
		return nil
	}
	c.writer = r.To.NewWriter(ctx, repo.WriterOptions{})
	defer func() {
		o.Written = sum(o.Written, c.writer.Stats())
		if err != nil { // which may be the very error that ended the session
			if closed := c.writer.Close(); closed != nil && !errors.Is(closed, repo.ErrClosed) && !errors.Is(err, closed) {
				err = errors.Join(err, closed)
			}
		}
	}()
	if err := c.describe(ctx, live); err != nil {
		return err
	}
	if err := c.maps(ctx, c.copyMap); err != nil {
		return err
	}
	made, err := snapshot.Commit(ctx, c.writer, c.draft)
	if err != nil {
		return err
	}
	o.Status = Copied
	if made.ID != live.ID { // the destination has a backup that was made for the same request
		o.Status = r.there(made.ID)
	}
	return nil
}

// shared are those snapshots of the source that the destination has as well, and that are not newer than
// the one to be copied.
type shared struct {
	named
	known []journal.Live
}

// Snapshots implements [snapshot.Repository].
func (s shared) Snapshots() []journal.Live { return s.known }

// findParent finds the snapshot in both repositories that has most in common with the one to be copied.
func (c *copying) findParent(ctx context.Context) (err error) {
	if c.alone {
		return nil
	}
	both := shared{named: c.parents}
	for _, l := range c.from.Snapshots() {
		_, there := c.To.Snapshot(l.ID)
		if (there || c.planned[l.ID]) && l.Time <= c.source.Started.UnixMilli() {
			both.known = append(both.known, l)
		}
	}
	q := snapshot.ParentQuery{Cluster: c.source.Cluster, Schedule: c.source.Schedule, Name: c.source.Name,
		Objects: !c.source.Manifest.Objects.Empty()}
	for _, v := range c.volumes {
		q.Volumes = append(q.Volumes, v.Name)
	}
	c.parent, err = snapshot.Parent(ctx, both, q)
	if err != nil || c.parent == nil {
		return err
	}
	live, there := c.To.Snapshot(c.parent.ID)
	lost := false
	if there {
		if lost, err = c.hasLost(ctx, live); err != nil {
			return err
		}
	}
	if lost || !there && !c.dry { // not there: forgotten this moment
		c.parent = nil
		return nil
	}
	c.out.Parent = c.parent.ID.String()
	if c.dry {
		return nil
	}
	c.copied, err = snapshot.Load(ctx, c.to, live)
	return err
}

// hasLost reports whether it is known of a copy that something of it is lost. Such a copy is not built on:
// what it lacks, the next one would lack too, and be told of as copied. Without a parent all is stored that
// is not there, and chunks that the older copy has lost are there again.
func (r *run) hasLost(ctx context.Context, live journal.Live) (bool, error) {
	if !r.To.KnowsDamage() {
		return false, nil
	}
	losses, err := r.To.Losses(ctx, blob.Ref{Class: blob.Manifest, ID: live.Manifest})
	if err != nil {
		return false, r.to.say(err)
	}
	return !losses.None(), nil
}

// describe begins the draft with all that is no map.
func (c *copying) describe(ctx context.Context, live journal.Live) (err error) {
	s := c.source
	c.draft = snapshot.Draft{
		ID: s.ID, Name: s.Name, Schedule: s.Schedule, Cluster: s.Cluster, Started: s.Started, Completed: s.Completed,
		Expires: s.Expires, Complete: s.Complete, Stats: s.Stats, UID: live.UID, TreeKey: c.To.DeriveKey("tree"),
	}
	if c.copied != nil {
		c.draft.Inherits = []snapshot.ID{c.copied.ID}
	}
	if c.draft.Plan, err = s.Plan(ctx); err != nil {
		return err
	}
	if c.draft.Discovery, err = s.Discovery(ctx); err != nil {
		return err
	}
	if c.draft.Results, err = s.Results(ctx); err != nil {
		return err
	}
	c.draft.Unlisted = snapshot.Unlisted{Errors: s.Errors, Warnings: s.Warnings}
	for _, r := range c.draft.Results {
		switch r.Severity {
		case snapshot.Error:
			c.draft.Unlisted.Errors--
		case snapshot.Warning:
			c.draft.Unlisted.Warnings--
		}
	}
	return nil
}
