package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/varve-dev/varve/repo"
	"github.com/varve-dev/varve/repo/blob"
	"github.com/varve-dev/varve/snapshot"
	"github.com/varve-dev/varve/snapshot/files"
	"github.com/varve-dev/varve/snapshot/tree"
)

// volume backs up one folder.
func (r *run) volume(ctx context.Context, v Volume) error {
	now := Progress{Stage: "volume", Volume: v.Name}
	before, giveUp, err := r.parentVolume(ctx, v.Name)
	if err != nil {
		return err
	}
	if before != nil {
		now.ExpectedItems, now.ExpectedBytes = before.Root().Count, before.Root().Bytes
	}
	r.progress.stage(now)
	assembler := r.assembler(giveUp)
	defer assembler.Close()
	report, err := files.Backup(ctx, files.Source{Root: v.Path}, assembler, before, files.Options{
		ChangeDetection: r.plan.ChangeDetection, Lost: r.lost.Touches,
		Events: files.Events{
			Entry: func(_ string, a files.Attributes) { r.progress.add(1, uint64(max(0, a.Size))) },
			Bytes: func(n int64) { r.progress.read(uint64(n)) },
		},
	})
	if err != nil {
		return err
	}
	finished, err := assembler.Finish(ctx)
	if err != nil {
		return err
	}
	r.note(v, report)
	r.draft.Volumes = append(r.draft.Volumes, snapshot.VolumeDraft{
		Volume: snapshot.Volume{Name: v.Name, Mode: "Filesystem", Root: finished.Root}, Sparse: finished.Sparse,
	})
	r.draft.Stats.Items += finished.Root.Count
	r.draft.Stats.Bytes += uint64(report.Bytes)
	r.draft.Stats.ReadBytes += uint64(report.ReadBytes)
	r.result.Volumes = append(r.result.Volumes, VolumeResult{Volume: v, Files: report})
	return nil
}

// parentVolume returns the parent's map of a volume, or nil, and the bundles to give up. A map of which a
// node is lost is no help: all files are read, and what the repository still has is not stored again.
func (r *run) parentVolume(ctx context.Context, name string) (*tree.Map, []blob.Ref, error) {
	if r.parent == nil {
		return nil, nil, nil
	}
	old, err := r.parent.Volume(ctx, name)
	known := func(err error) bool { return errors.Is(err, repo.ErrDamaged) && !r.lost.None() }
	if errors.Is(err, snapshot.ErrNotFound) || known(err) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if r.lost.Breaks(old.Root.Ref) {
		return nil, nil, nil
	}
	giveUp, err := r.parent.SparseFiles(ctx, old)
	if err != nil && !known(err) {
		return nil, nil, err
	}
	r.draft.Inherits = []snapshot.ID{r.parent.ID}
	return r.parent.Files(old), giveUp, nil
}

// note records what a volume's report finds: what could not be read is missing, what changed meanwhile
// may be half old and half new.
func (r *run) note(v Volume, report files.Report) {
	for _, kind := range []struct {
		found    files.Findings
		severity snapshot.Severity
		what     string
	}{
		{report.Unreadable, snapshot.Error, "cannot be read"},
		{report.Changed, snapshot.Warning, "changed while it was read"},
		{report.Vanished, snapshot.Warning, "vanished"},
		{report.Skipped, snapshot.Warning, "is left out"},
	} {
		for _, f := range kind.found.List {
			r.draft.Results = append(r.draft.Results, snapshot.Result{
				Severity: kind.severity, Item: v.Name + ":" + f.Path, Message: fmt.Sprintf("%s: %s", kind.what, f.Reason),
			})
		}
		if more := kind.found.Count - int64(len(kind.found.List)); more > 0 {
			r.draft.Results = append(r.draft.Results, snapshot.Result{
				Severity: kind.severity, Item: v.Name, Message: fmt.Sprintf("%d more files: %s", more, kind.what),
			})
		}
	}
}
