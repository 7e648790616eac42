package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/varve-dev/varve/repo/storage"
)

// tolerance is how far apart clocks may be. Stores refuse requests that were signed fifteen minutes off.
const tolerance = 5 * time.Minute

// deletes removes an object and looks that it is gone, and removes one that never was.
func (p *prober) deletes(ctx context.Context) (string, error) {
	name := p.folder + "delete"
	data := written(0, raceBytes)
	if err := p.create(ctx, name, data); err != nil {
		return "", err
	}
	if _, err := p.get(ctx, name, 0, -1); err != nil { // now a cache has it
		return "", err
	}
	if err := p.removeOne(ctx, name); err != nil {
		p.stuck = true
		if errors.Is(err, storage.ErrForbidden) || errors.Is(err, fs.ErrPermission) {
			return "", seen(DeleteRefused, "%v", err)
		}
		return "", err
	}
	if err := p.wantGone(ctx, name); err != nil {
		return "", err
	}
	if err := p.bucket.Delete(ctx, name); err != nil && isAnswer(err) && ctx.Err() == nil {
		return "", seen(AbsentDeleteRefused, "%v", err)
	} else if err != nil {
		return "", err
	}
	return "what is deleted is gone, and deleting it again is no error", nil
}

// wantGone wants a deleted object to be neither read nor counted any more.
func (p *prober) wantGone(ctx context.Context, name string) error {
	_, readErr := p.bucket.Get(ctx, name, 0, -1)
	_, statErr := p.bucket.Stat(ctx, name)
	for _, err := range []error{readErr, statErr} {
		if err != nil && !errors.Is(err, storage.ErrNotFound) {
			return err
		}
	}
	switch {
	case readErr == nil && statErr == nil:
		p.stuck = true
		p.mu.Lock()
		p.made[name] = true
		p.mu.Unlock()
		return seen(DeleteIgnored, "a delete succeeded, and the object is still there")
	case readErr == nil || statErr == nil:
		return seen(StaleReads, "an object is still found after it was deleted")
	}
	return nil
}

// clock compares the store's clock with this machine's, by the time that it gives to an object.
func (p *prober) clock(ctx context.Context) (string, error) {
	name := p.folder + "clock"
	before := time.Now()
	if err := p.create(ctx, name, written(0, raceBytes)); err != nil {
		return "", err
	}
	after := time.Now()
	info, err := p.bucket.Stat(ctx, name)
	if err != nil {
		return "", err
	}
	p.clockOfStore = info.ModTime
	off, saw := time.Duration(0), "it agrees with this machine's to the second"
	// Stores keep whole seconds.
	if early := before.Truncate(time.Second).Sub(info.ModTime); early > time.Second {
		off, saw = early, fmt.Sprintf("it is %v behind this machine's", early.Round(time.Second))
	} else if late := info.ModTime.Sub(after); late > time.Second {
		off, saw = late, fmt.Sprintf("it is %v ahead of this machine's", late.Round(time.Second))
	}
	if off > tolerance {
		return "", seen(ClockOff, "%s", saw)
	}
	return saw, nil
}

// A versioned bucket knows whether its store keeps what is replaced and deleted.
type versioned interface {
	Versioning(ctx context.Context) (on bool, err error)
}

// A lockable bucket knows whether its store can keep objects from being deleted, and for how long it keeps
// new ones by itself.
type lockable interface {
	ObjectLock(ctx context.Context) (on bool, retention time.Duration, err error)
}

// driver is what is beneath a bucket that stands before another. What only some kinds of stores can tell is
// asked of it directly.
func driver(b storage.Bucket) storage.Bucket {
	for {
		outer, ok := b.(interface{ Unwrap() storage.Bucket })
		if !ok {
			return b
		}
		b = outer.Unwrap()
	}
}

func (p *prober) versioning(ctx context.Context) (string, error) {
	b, ok := driver(p.bucket).(versioned)
	if !ok {
		return "", untold("this kind of store does not tell; look at the bucket's settings")
	}
	on, err := b.Versioning(ctx)
	if err != nil {
		return "", untold(fmt.Sprintf("the store did not tell: %v", err))
	}
	if !on {
		return "", seen(NoVersioning, "the bucket keeps no older versions")
	}
	return "what is deleted stays as an older version; let a lifecycle rule remove these some day", nil
}

func (p *prober) lock(ctx context.Context) (string, error) {
	b, ok := driver(p.bucket).(lockable)
	if !ok {
		return "", untold("this kind of store does not tell; look at the bucket's settings")
	}
	on, retention, err := b.ObjectLock(ctx)
	switch {
	case err != nil:
		return "", untold(fmt.Sprintf("the store did not tell: %v", err))
	case !on:
		return "", seen(NoLock, "the bucket has no Object Lock")
	case retention == 0:
		return "the bucket has Object Lock, and no retention by default", nil
	}
	return fmt.Sprintf("the bucket has Object Lock, and keeps each new object for %v", retention), nil
}
