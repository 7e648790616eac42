package command

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/varve-dev/varve/kube"
	"github.com/varve-dev/varve/kube/restore"
)

func TestObjectsWithoutTheirNamespaceAreOneLine(t *testing.T) {
	outcome := func(space, name string, result restore.Result, err error) restore.Outcome {
		k := kube.Key{Resource: "configmaps", Namespace: space, Name: name}
		return restore.Outcome{Action: restore.Action{Key: k, Target: k}, Result: result, Err: err}
	}
	lost := fmt.Errorf("%w: quota", restore.ErrNamespace)
	var r restored
	r.outcomes(restore.Report{Outcomes: []restore.Outcome{
		outcome("a", "x", restore.Failed, lost), outcome("b", "x", restore.Created, nil), outcome("a", "y", restore.Failed, lost),
		outcome("b", "y", restore.Failed, errors.New("no")), outcome("c", "x", restore.Failed, lost),
	}})
	s := newSheet()
	writeOutcomes(s, r.Objects)
	text, err := s.finish()
	want := `
failed: 2 objects of namespace a: its namespace cannot be made: quota
failed: configmaps/b/y: no
failed: 1 object of namespace c: its namespace cannot be made: quota
`
	if d := cmp.Diff(want, string(text)); d != "" || err != nil {
		t.Error(err, d)
	}
	if r.Failed != 4 || r.Status != "PartiallyFailed" {
		t.Errorf("%d failed, %s", r.Failed, r.Status)
	}
}

func TestPlanCountsWhatItDoesNotShow(t *testing.T) {
	action := func(name string, verb restore.Verb, reason string) restore.Action {
		k := kube.Key{Resource: "configmaps", Namespace: "a", Name: name}
		return restore.Action{Key: k, Target: k, Verb: verb, Reason: reason}
	}
	var r restored
	r.plan(&restore.Prepared{Actions: []restore.Action{
		action("x", restore.Create, ""), action("y", restore.Keep, ""), action("z", restore.Keep, "it differs in data"),
	}}, nil)
	s := newSheet()
	writePlan(s, r)
	text, err := s.finish()
	want := `ACTION   OBJECT           REASON
create   configmaps/a/x
keep     configmaps/a/z   it differs in data

1 create, 2 keep; 1 of keep are as in the backup and not shown; nothing was changed
`
	if d := cmp.Diff(want, string(text)); d != "" || err != nil {
		t.Error(err, d)
	}
}
