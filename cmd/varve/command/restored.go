package command

import (
	"errors"
	"fmt"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/restore"
)

// restored is what a restore did, or in a dry run would do.
type restored struct {
	Name     string           `json:"name,omitempty"`
	Backup   string           `json:"backup"`
	Snapshot string           `json:"snapshot"`
	DryRun   bool             `json:"dryRun,omitempty"`
	Status   string           `json:"status"` // Completed, PartiallyFailed, or Planned in a dry run
	Seconds  float64          `json:"seconds"`
	Counts   map[string]int   `json:"counts,omitempty"` // of objects by result; in a dry run by action
	Objects  []restoredObject `json:"objects,omitempty"`
	Volumes  []restoredVolume `json:"volumes,omitempty"`
	Warnings []string         `json:"warnings,omitempty"`
	Failed   int              `json:"failed"` // objects and files

	damaged bool // the repository is, in what was read of it
}

// restoredObject is one object and what became of it.
type restoredObject struct {
	Object string `json:"object"`           // in the backup
	Target string `json:"target,omitempty"` // in the cluster, if it is another one
	Action string `json:"action"`
	Result string `json:"result,omitempty"` // not in a dry run
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`

	space string // the namespace without which it failed
}

func objectOf(a restore.Action) restoredObject {
	o := restoredObject{Object: a.Key.String(), Action: string(a.Verb), Reason: a.Reason}
	if a.Target != a.Key && a.Target != (kube.Key{}) {
		o.Target = a.Target.String()
	}
	return o
}

// plan notes what would be done.
func (r *restored) plan(p *restore.Prepared, targets []restore.Volume) {
	r.Status, r.Counts = "Planned", map[string]int{}
	for _, a := range p.Actions {
		r.Objects = append(r.Objects, objectOf(a))
		r.Counts[string(a.Verb)]++
	}
	r.Failed = r.Counts[string(restore.Refuse)]
	for i, v := range p.Volumes {
		r.Volumes = append(r.Volumes, restoredVolume{Name: v.Name, Path: wild(targets[i].Path), Entries: v.Root.Count, Bytes: int64(v.Root.Bytes)})
	}
}

// outcomes notes what was done.
func (r *restored) outcomes(report restore.Report) {
	r.Status, r.Warnings, r.Counts = "Completed", report.Warnings, map[string]int{}
	for _, o := range report.Outcomes {
		x := objectOf(o.Action)
		x.Result = string(o.Result)
		if o.Err != nil {
			x.Error = o.Err.Error()
		}
		if errors.Is(o.Err, restore.ErrNamespace) {
			x.space = o.Target.Namespace
		}
		r.Objects = append(r.Objects, x)
		r.Counts[x.Result]++
	}
	for _, v := range report.Volumes {
		f := v.Files
		r.Volumes = append(r.Volumes, restoredVolume{Name: v.Name, Path: wild(v.Path), Bytes: f.Bytes, Report: reportOf(f),
			Entries: uint64(f.Files + f.Directories + f.Symlinks + f.Specials + f.Links)})
		r.Failed += int(f.Failed.Count)
	}
	r.Failed += report.Count(restore.Failed)
	if r.Failed > 0 {
		r.Status = "PartiallyFailed"
	}
}

// showRestored shows what a restore did, and fails if something is missing.
func (a *app) showRestored(r restored) error {
	err := a.show(r, func(t *sheet) {
		if r.DryRun {
			writePlan(t, r)
		} else {
			writeRestored(t, r)
		}
		for _, w := range r.Warnings {
			t.line("warning: %s", escaped(w))
		}
	})
	if err == nil && r.Counts[string(restore.Differs)] > 0 && a.output == asTable {
		a.note("what differs was left as it is; --existing-resource-policy update makes it as it was")
	}
	switch {
	case err != nil && r.DryRun:
		return err
	case err != nil:
		return afterwards("the restore was done", err)
	case r.Failed == 0:
		return nil
	}
	verdict := "is incomplete: " + counted(r.Failed, "item") + " failed"
	if r.DryRun {
		verdict = "would be incomplete: " + counted(r.Failed, "item") + " cannot be restored"
	}
	if r.damaged {
		return failure{err: errors.New("the repository is damaged, and the restore " + verdict), code: exitDamaged, hint: damageHint}
	}
	return failure{err: errors.New("the restore " + verdict), code: exitIncomplete,
		hint: "mend what the messages name and run it again: what is there already is left alone"}
}

// writePlan shows what would be done. What is there as in the backup is only counted.
func writePlan(t *sheet, r restored) {
	header, unchanged := []string{"ACTION", "OBJECT", "REASON"}, 0
	for _, o := range r.Objects {
		if o.Action == string(restore.Keep) && o.Reason == "" {
			unchanged++
			continue
		}
		object := name(o.Object)
		if o.Target != "" {
			object += " -> " + name(o.Target)
		}
		t.row(header...)
		t.row(o.Action, object, escaped(o.Reason))
		header = nil
	}
	for _, v := range r.Volumes {
		t.line("volume %s would be written to %s: %s, %s", name(v.Name), name(v.Path), entries(v.Entries), size(v.Bytes))
	}
	if len(r.Counts) == 0 {
		t.line("\nnothing was changed")
		return
	}
	hidden := ""
	if unchanged > 0 {
		hidden = fmt.Sprintf("; %s of keep are as in the backup and not shown", count(unchanged))
	}
	t.line("\n%s%s; nothing was changed", countsText(r.Counts, restore.Create, restore.Update, restore.Merge, restore.Keep, restore.Skip,
		restore.Refuse), hidden)
}

// writeOutcomes lists what failed or differs. What failed for want of one namespace is one line.
func writeOutcomes(t *sheet, objects []restoredObject) {
	homeless := map[string]int{}
	for _, o := range objects {
		homeless[o.space]++
	}
	shown := false
	for _, o := range objects {
		if o.Result != string(restore.Failed) && o.Result != string(restore.Differs) || homeless[o.space] == 0 {
			continue
		}
		if !shown {
			t.line("")
			shown = true
		}
		if o.space == "" {
			t.line("%s: %s: %s", o.Result, name(o.Object), escaped(o.Error+o.Reason))
			continue
		}
		t.line("%s: %s of namespace %s: %s", o.Result, counted(homeless[o.space], "object"), name(o.space), escaped(o.Error))
		homeless[o.space] = 0
	}
}

func writeRestored(t *sheet, r restored) {
	if r.Name != "" {
		t.row("Restore:", name(r.Name)+" ("+r.Status+")")
	}
	t.row("From:", fmt.Sprintf("%s, snapshot %s", name(r.Backup), r.Snapshot))
	t.row("Duration:", took(time.Duration(r.Seconds*float64(time.Second))))
	if len(r.Counts) > 0 {
		t.row("Objects:", countsText(r.Counts, restore.Created, restore.Updated, restore.Unchanged, restore.Differs, restore.Skipped, restore.Failed))
	}
	for _, v := range r.Volumes {
		t.row("Volume:", volumeText(v))
	}
	writeOutcomes(t, r.Objects)
	for _, v := range r.Volumes {
		writeVolume(t, v)
	}
}

// countsText shows the counts that are not zero, in the order given.
func countsText[R ~string](counts map[string]int, order ...R) string {
	text := ""
	for _, result := range order {
		if n := counts[string(result)]; n > 0 {
			if text != "" {
				text += ", "
			}
			text += fmt.Sprintf("%s %s", count(n), result)
		}
	}
	if text == "" {
		return "none"
	}
	return text
}
