package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

// A keeper is a store that tells what its bucket keeps of what was deleted, and what it keeps from being
// deleted. Azure settles both for a whole account, which credentials for a container may not look at.
type keeper interface {
	versioning(ctx context.Context) (on bool, err error)
	lock(ctx context.Context) (on bool, retention time.Duration, err error)
}

// errUntold is for stores that do not tell.
var errUntold = fmt.Errorf("this kind of store does not tell: %w", errors.ErrUnsupported)

// Versioning reports whether the bucket keeps deleted objects as older versions. It takes a permission of
// its own.
func (b *Bucket) Versioning(ctx context.Context) (on bool, err error) {
	err = b.ask(ctx, "look at the versioning of", b.address.bucket, func(s store) (err error) {
		k, ok := s.(keeper)
		if !ok {
			return errUntold
		}
		on, err = k.versioning(ctx)
		return err
	})
	return on, err
}

// ObjectLock reports whether objects of the bucket can be kept from being deleted, and for how long new
// ones are by default. It takes a permission of its own.
func (b *Bucket) ObjectLock(ctx context.Context) (on bool, retention time.Duration, err error) {
	err = b.ask(ctx, "look at the lock of", b.address.bucket, func(s store) (err error) {
		k, ok := s.(keeper)
		if !ok {
			return errUntold
		}
		on, retention, err = k.lock(ctx)
		return err
	})
	return on, retention, err
}

func (s *s3Store) versioning(ctx context.Context) (bool, error) {
	out, err := s.client.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: aws.String(s.address.bucket)})
	if err != nil {
		return false, err
	}
	return out.Status == types.BucketVersioningStatusEnabled, nil
}

// The units of a default retention.
const (
	day  = 24 * time.Hour
	year = 365 * day
)

func (s *s3Store) lock(ctx context.Context) (bool, time.Duration, error) {
	out, err := s.client.GetObjectLockConfiguration(ctx, &s3.GetObjectLockConfigurationInput{Bucket: aws.String(s.address.bucket)})
	if refused, ok := errors.AsType[smithy.APIError](err); ok && refused.ErrorCode() == "ObjectLockConfigurationNotFoundError" {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	c := out.ObjectLockConfiguration
	if c == nil || c.ObjectLockEnabled != types.ObjectLockEnabledEnabled {
		return false, 0, nil
	}
	if c.Rule == nil || c.Rule.DefaultRetention == nil {
		return true, 0, nil
	}
	r := c.Rule.DefaultRetention
	return true, time.Duration(aws.ToInt32(r.Days))*day + time.Duration(aws.ToInt32(r.Years))*year, nil
}

func (s *gcsStore) versioning(ctx context.Context) (bool, error) {
	bucket, err := s.buckets.Get(s.address.bucket).Fields("versioning").Context(ctx).Do()
	if err != nil {
		return false, s.inBucket(err)
	}
	return bucket.Versioning != nil && bucket.Versioning.Enabled, nil
}

// lock takes the retention of a whole bucket, which is older than that of single objects, for a lock too.
func (s *gcsStore) lock(ctx context.Context) (bool, time.Duration, error) {
	bucket, err := s.buckets.Get(s.address.bucket).Fields("retentionPolicy", "objectRetention").Context(ctx).Do()
	if err != nil {
		return false, 0, s.inBucket(err)
	}
	if p := bucket.RetentionPolicy; p != nil {
		return true, time.Duration(p.RetentionPeriod) * time.Second, nil
	}
	return bucket.ObjectRetention != nil && bucket.ObjectRetention.Mode == "Enabled", 0, nil
}
