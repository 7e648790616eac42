package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/varve-dev/varve/kube"
)

const (
	pollPause = 100 * time.Millisecond
	// definitionTimeout is how long the API server may take to serve a new kind.
	definitionTimeout = time.Minute
	// defaultPatience is how long an object of the same name may take to vanish.
	defaultPatience = 90 * time.Second
)

// errDeleting means that an object of the same name did not vanish in time. To wait once more is no use.
var errDeleting = errors.New("it is being deleted and does not vanish")

// settled returns what is there in the place of an object, or nothing. What is being deleted is waited
// for, as long as there is patience.
func (r *run) settled(ctx context.Context, a *Action) (kube.Object, error) {
	there, err := r.standing(ctx, a)
	if !errors.Is(err, errDeleting) {
		return there, err
	}
	patience := r.deps.Patience
	if patience == 0 {
		patience = defaultPatience
	}
	r.wait(1, a.Target.String()+" is being deleted")
	defer r.wait(-1, "")
	for deadline := time.Now().Add(patience); errors.Is(err, errDeleting) && time.Now().Before(deadline); {
		if err := sleep(ctx, pollPause); err != nil {
			return nil, err
		}
		there, err = r.standing(ctx, a)
	}
	return there, err
}

// standing returns what is there in the place of an object now, or nothing.
func (r *run) standing(ctx context.Context, a *Action) (kube.Object, error) {
	there, err := r.deps.Cluster.Get(ctx, a.resource, a.Target.Namespace, a.Target.Name)
	switch {
	case errors.Is(err, kube.ErrAbsent):
		return nil, nil
	case err == nil && there.Text("metadata", "deletionTimestamp") != "":
		return nil, fmt.Errorf("create %s: %w", a.Target, errDeleting)
	}
	return there, err
}

// wait tells that one more waits for something, or one less. That nothing is waited for any more is
// told when the last goes on.
func (r *run) wait(more int, what string) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.waiting += more
	if r.deps.Waiting != nil && (more > 0 || r.waiting == 0) {
		r.deps.Waiting(what)
	}
}

// waitEstablished waits until the API server has taken up the definitions that were made. It takes its
// time for each, but for all of them at once.
func (r *run) waitEstablished(ctx context.Context, actions []int) error {
	deadline := time.Now().Add(definitionTimeout)
	for _, i := range actions {
		for r.outcomes[i].Result == Created {
			ok, err := r.established(ctx, r.Actions[i])
			if errors.Is(err, kube.ErrUnreachable) {
				return err
			}
			if ok {
				break
			}
			if err == nil && time.Now().After(deadline) {
				err = fmt.Errorf("%s: the API server does not serve it after %v", r.Actions[i].Target, definitionTimeout)
			}
			if err != nil {
				r.outcomes[i] = Outcome{Action: r.Actions[i], Result: Failed, Err: err}
				break
			}
			if err := sleep(ctx, pollPause); err != nil {
				return err
			}
		}
	}
	return nil
}

// established reports whether the API server serves what a definition defines.
func (r *run) established(ctx context.Context, a Action) (bool, error) {
	o, err := r.deps.Cluster.Get(ctx, a.resource, "", a.Target.Name)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(o.Each("status", "conditions"), func(c kube.Object) bool {
		return c.Text("type") == "Established" && c.Text("status") == "True"
	}), nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
