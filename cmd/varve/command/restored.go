package command

import (
	"fmt"
	"time"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/restore"
	"github.com/varve-dev/varve/snapshot/files"
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
}

// restoredObject is one object and what became of it.
type restoredObject struct {
	Object string `json:"object"`           // in the backup
	Target string `json:"target,omitempty"` // in the cluster, if it is another one
	Action string `json:"action"`
	Result string `json:"result,omitempty"` // not in a dry run
	Reason string `json:"reason,omitempty"`
	Error  string `json:"error,omitempty"`
}

type restoredVolume struct {
	Name    string               `json:"name"`
	Path    string               `json:"path"`
	Entries uint64               `json:"entries"`
	Bytes   int64                `json:"bytes"`
	Report  *files.RestoreReport `json:"report,omitempty"`
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
	for i, v := range p.Volumes {
		r.Volumes = append(r.Volumes, restoredVolume{Name: v.Name, Path: targets[i].Path, Entries: v.Root.Count, Bytes: int64(v.Root.Bytes)})
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
		r.Objects = append(r.Objects, x)
		r.Counts[x.Result]++
	}
	for _, v := range report.Volumes {
		f := v.Files
		r.Volumes = append(r.Volumes, restoredVolume{Name: v.Name, Path: v.Path, Bytes: f.Bytes, Report: &f,
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
	return failure{err: fmt.Errorf("the restore is incomplete: %s failed", counted(r.Failed, "item")), code: exitIncomplete,
		hint: "mend what the messages name and run it again: what is there already is left alone"}
}

// writePlan shows what would be done. What is there as in the backup is only counted.
func writePlan(t *sheet, r restored) {
	header := []string{"ACTION", "OBJECT", "REASON"}
	for _, o := range r.Objects {
		if o.Action == string(restore.Keep) && o.Reason == "" {
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
		t.line("volume %s would be written to %s: %s entries, %s", name(v.Name), name(v.Path), count(v.Entries), size(v.Bytes))
	}
	if len(r.Counts) == 0 {
		t.line("\nnothing was changed")
		return
	}
	t.line("\n%s; nothing was changed", countsText(r.Counts, restore.Create, restore.Update, restore.Merge, restore.Keep, restore.Skip, restore.Refuse))
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
	shown := false
	for _, o := range r.Objects {
		if o.Result != string(restore.Failed) && o.Result != string(restore.Differs) {
			continue
		}
		if !shown {
			t.line("")
			shown = true
		}
		t.line("%s: %s: %s", o.Result, name(o.Object), escaped(o.Error+o.Reason))
	}
	for _, v := range r.Volumes {
		writeVolume(t, v)
	}
}

func volumeText(v restoredVolume) string {
	text := fmt.Sprintf("%s, %s to %s, %s", name(v.Name), counted(v.Report.Files, "file"), name(v.Path), size(v.Bytes))
	if v.Report.Right > 0 {
		text += fmt.Sprintf("; %s were right already", count(v.Report.Right))
	}
	if v.Report.Kept > 0 {
		text += fmt.Sprintf("; %s kept as they are", count(v.Report.Kept))
	}
	return text
}

func writeVolume(t *sheet, v restoredVolume) {
	for _, kind := range []struct {
		what  string
		found files.Findings
	}{{"failed", v.Report.Failed}, {"skipped", v.Report.Skipped}} {
		for i, f := range kind.found.List {
			if i == fewResults {
				break
			}
			t.line("%s: %s: %s", kind.what, name(fileAddress(v.Name, f.Path)), escaped(f.Reason))
		}
		if more := kind.found.Count - fewResults; more > 0 {
			t.line("%s: %s more", kind.what, count(more))
		}
	}
	for _, w := range v.Report.Warnings {
		t.line("warning: %s: %s of %s, first %s", name(v.Name), escaped(w.What), counted(w.Count, "file"), name(w.First))
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
