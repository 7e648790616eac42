package command

import (
	"fmt"

	"github.com/varve-dev/varve/snapshot/files"
)

// restoredVolume is a volume and what became of its files.
type restoredVolume struct {
	Name    string       `json:"name"`
	Path    wild         `json:"path"`
	Entries uint64       `json:"entries"`
	Bytes   int64        `json:"bytes"`
	Report  *filesReport `json:"report,omitempty"` // not in a dry run
}

// filesReport is [files.RestoreReport] with the names that JSON has here.
type filesReport struct {
	Files       int64          `json:"files"` // regular ones written
	Directories int64          `json:"directories"`
	Symlinks    int64          `json:"symlinks"`
	Specials    int64          `json:"specials"`
	Links       int64          `json:"links"` // further names of files
	Right       int64          `json:"right"` // that were right already
	Kept        int64          `json:"kept"`
	Failed      findings       `json:"failed"`
	Skipped     findings       `json:"skipped"`
	Warnings    []filesWarning `json:"warnings"`
}

// findings are files about which there is something to say: how many, and the first of them.
type findings struct {
	Count int64     `json:"count"`
	List  []finding `json:"list"`
}

type finding struct {
	Path   wild   `json:"path"`
	Reason string `json:"reason"`
}

type filesWarning struct {
	What  string `json:"what"`
	Count int64  `json:"count"`
	First wild   `json:"first"`
}

func reportOf(r files.RestoreReport) *filesReport {
	report := &filesReport{Files: r.Files, Directories: r.Directories, Symlinks: r.Symlinks, Specials: r.Specials, Links: r.Links,
		Right: r.Right, Kept: r.Kept, Failed: findingsOf(r.Failed), Skipped: findingsOf(r.Skipped), Warnings: []filesWarning{}}
	for _, w := range r.Warnings {
		report.Warnings = append(report.Warnings, filesWarning{w.What, w.Count, wild(w.First)})
	}
	return report
}

func findingsOf(found files.Findings) findings {
	list := make([]finding, len(found.List))
	for i, f := range found.List {
		list[i] = finding{wild(f.Path), f.Reason}
	}
	return findings{found.Count, list}
}

func volumeText(v restoredVolume) string {
	text := fmt.Sprintf("%s, %s to %s, %s", name(v.Name), filesText(v.Report.Files, int64(v.Entries)), name(v.Path), size(v.Bytes))
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
		found findings
	}{{"failed", v.Report.Failed}, {"skipped", v.Report.Skipped}} {
		for i, f := range kind.found.List {
			if i == fewResults {
				break
			}
			t.line("%s: %s: %s", kind.what, name(fileAddress(v.Name, string(f.Path))), escaped(f.Reason))
		}
		if more := kind.found.Count - fewResults; more > 0 {
			t.line("%s: %s more", kind.what, count(more))
		}
	}
	for _, w := range v.Report.Warnings {
		t.line("warning: %s: %s of %s, first %s", name(v.Name), escaped(w.What), counted(w.Count, "file"), name(w.First))
	}
}
