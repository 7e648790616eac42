// Package cloud is a bucket in an object store: S3 and its many relatives, Google Cloud Storage, Azure
// Blob Storage.
//
//	s3://BUCKET/PREFIX?region=eu-central-1                     Amazon S3
//	s3://BUCKET/PREFIX?endpoint=https://minio.example:9000     MinIO, Ceph and others
//	gs://BUCKET/PREFIX                                         Google Cloud Storage
//	azblob://CONTAINER/PREFIX?account=NAME                     Azure Blob Storage
//
// These options stand behind the question mark:
//
//	endpoint       URL of the store, where it is not the provider's own
//	ca             file with certificates to trust besides the system's
//	proxy          URL of a proxy; without it HTTPS_PROXY and NO_PROXY count
//	credentials    file to take credentials from, in the provider's own format
//	anonymous      true: ask without credentials
//	storage_class  class, or access tier, of new objects
//	region         S3: the region of the bucket
//	profile        S3: the profile in the shared files
//	path_style     S3: true sends the bucket's name in the path; it does when endpoint is given
//	checksum       S3: what goes along with an object for the store to check: crc32c, md5 or none
//	account        Azure: the storage account
//
// # One request
//
// A request of [storage.Bucket] is one request to the store, whatever the size of the object: the
// providers' upload managers, which cut an object of 32 MiB into six requests, are not used. The
// exceptions are rare and read-only: a Stat of an empty object in S3, and a creation that the store
// answered with a conflict.
//
// # Errors
//
// Each store's own codes are sorted into the classes of package storage by a table beside its driver.
// Nothing else decides: libraries over several stores tend to call a 403 or an unknown host "not
// found", and a journal whose next entry is not found ends there.
//
// # Credentials
//
// They are looked for where the provider's own programs look, so workload identity works. When the
// store refuses them, they are looked for once more, files included, and the request is repeated with
// what was found: a rotation needs no restart.
package cloud

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/varve-dev/varve/repo/storage"
)

// Bucket is a [storage.Bucket] in an object store.
type Bucket struct {
	address   address
	transport *http.Transport
	connect   func(context.Context) (store, error)

	client   atomic.Pointer[client]
	renewing sync.Mutex
}

// A client is a store with the credentials it was made with. Another set makes another client.
type client struct{ store }

// A store is what a provider's library is asked to do. Keys are names with the prefix in front. Errors
// are in the provider's own words or already sorted; classify says which class they are.
type store interface {
	// put creates an object under a free key.
	put(ctx context.Context, key string, data []byte) error
	// get returns a range of at least one byte. A range that begins past the end is errPastEnd.
	get(ctx context.Context, key string, offset, length int64) ([]byte, error)
	stat(ctx context.Context, key string) (storage.Info, error)
	// list returns one page of keys, in order, none before from; resume is what the page before said.
	list(ctx context.Context, prefix, from, resume string) (page, error)
	remove(ctx context.Context, key string) error
	classify(err error) error
}

// A page is a part of a list.
type page struct {
	objects []storage.Info // named by their keys
	resume  string         // empty: the last one
}

// errPastEnd is a range that begins at or after the end of an object that is there.
var errPastEnd = errors.New("range begins past the end")

// errConflict is a creation that another request to the same key got in the way of. What stands there
// now is unknown.
var errConflict = errors.New("another request is writing the same object")

// Options say what a URL cannot: what is secret, and what depends on the process.
type Options struct {
	// Credentials are asked for at the start and whenever the store refused the last ones. Nil, or an
	// answer that is zero, leaves it to the option credentials of the URL and the provider's own chain.
	Credentials func(context.Context) (Credentials, error)

	// Conn is given each connection and returns the one to use. It may be nil.
	Conn func(net.Conn) net.Conn
}

// Credentials are keys to a store. Only the fields of the store at hand count.
type Credentials struct {
	AccessKeyID     string // S3
	SecretAccessKey string
	SessionToken    string // of temporary ones

	JSON []byte // Google: the file of a service account or of an external account

	Account    string // Azure: the account if the URL does not name it, and one of the next two
	AccountKey string
	SAS        string // shared access signature
}

// Open returns the bucket at a URL. It looks for credentials and does not ask the store yet.
func Open(ctx context.Context, url string, o Options) (*Bucket, error) {
	a, err := parseAddress(url)
	if err != nil {
		return nil, err
	}
	t, err := newTransport(a, o.Conn)
	if err != nil {
		return nil, err
	}
	b := &Bucket{address: a, transport: t}
	b.connect = func(ctx context.Context) (store, error) {
		var given Credentials
		if o.Credentials != nil {
			if given, err = o.Credentials(ctx); err != nil {
				return nil, &storage.Error{Class: storage.ErrCredentials, Err: err}
			}
		}
		switch a.scheme {
		case schemeS3:
			return newS3(ctx, a, t, given)
		case schemeGCS:
			return newGCS(a, t, given)
		default:
			return newAzure(a, t, given)
		}
	}
	s, err := b.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("open %s://%s: %w", a.scheme, a.bucket, err)
	}
	b.client.Store(&client{s})
	return b, nil
}

// ask sends a request, and once more with new credentials if the store refused the present ones.
func (b *Bucket) ask(ctx context.Context, attempt, name string, request func(store) error) error {
	c := b.client.Load()
	err := c.sorted(ctx, request)
	if errors.Is(err, storage.ErrCredentials) {
		if renewed, failed := b.renew(ctx, c); failed == nil {
			err = renewed.sorted(ctx, request)
		}
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w", attempt, name, err)
	}
	return nil
}

// sorted sends a request and sorts its error.
func (c *client) sorted(ctx context.Context, request func(store) error) error {
	err := request(c.store)
	switch {
	case err == nil, errors.Is(err, errPastEnd), errors.Is(err, storage.ErrNotFound), errors.Is(err, errUntold):
		return err
	case ctx.Err() != nil: // what broke off because of that says nothing about the store
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return c.classify(err)
}

// renew returns a client with the credentials of this moment. Of several requests that the same client
// was refused, one makes the new one.
func (b *Bucket) renew(ctx context.Context, refused *client) (*client, error) {
	b.renewing.Lock()
	defer b.renewing.Unlock()
	if c := b.client.Load(); c != refused {
		return c, nil
	}
	s, err := b.connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &client{s}
	b.client.Store(c)
	return c, nil
}

// conflicts is how often a creation is repeated that met another one and then found the name free.
const conflicts = 3

// Create stores an object under a free name by a conditional request.
func (b *Bucket) Create(ctx context.Context, name string, data []byte) error {
	if err := begin(ctx, "create", name); err != nil {
		return err
	}
	for try := 0; ; try++ {
		err := b.ask(ctx, "create", name, func(s store) error { return s.put(ctx, b.address.prefix+name, data) })
		if !errors.Is(err, errConflict) {
			return err
		}
		// The other one may have won, have failed, or have been a deletion. Whether something stands
		// there is the answer: we were refused, so it is not ours.
		_, found := b.Stat(ctx, name)
		switch {
		case found == nil:
			return fmt.Errorf("create %s: %w", name, storage.ErrExists)
		case !errors.Is(found, storage.ErrNotFound):
			return fmt.Errorf("create %s: %w", name, found)
		case try == conflicts:
			return fmt.Errorf("create %s: %w", name, &storage.Error{Class: storage.ErrTemporary, Err: err})
		}
	}
}

// Get returns a range of an object. An empty range asks only whether the object is there, since no
// store takes one.
func (b *Bucket) Get(ctx context.Context, name string, offset, length int64) ([]byte, error) {
	if err := begin(ctx, "get", name); err != nil {
		return nil, err
	}
	switch {
	case offset < 0:
		return nil, fmt.Errorf("get %s from %d: %w", name, offset, storage.ErrBadRange)
	case length == 0:
		_, err := b.Stat(ctx, name)
		return nil, err
	case length > math.MaxInt64-offset:
		length = -1
	}
	var data []byte
	err := b.ask(ctx, "get", name, func(s store) (err error) {
		data, err = s.get(ctx, b.address.prefix+name, offset, length)
		return err
	})
	if errors.Is(err, errPastEnd) {
		return nil, nil
	}
	return data, err
}

// Stat returns size and time of an object.
func (b *Bucket) Stat(ctx context.Context, name string) (storage.Info, error) {
	if err := begin(ctx, "stat", name); err != nil {
		return storage.Info{}, err
	}
	var info storage.Info
	err := b.ask(ctx, "stat", name, func(s store) (err error) {
		info, err = s.stat(ctx, b.address.prefix+name)
		return err
	})
	info.Name = name
	return info, err
}

// List returns the objects of a prefix in order. Stores that can begin a list in its middle do.
func (b *Bucket) List(ctx context.Context, prefix, startAfter string) iter.Seq2[storage.Info, error] {
	return func(yield func(storage.Info, error) bool) {
		if err := storage.CheckPrefix(prefix); err != nil {
			yield(storage.Info{}, fmt.Errorf("list: %w", err))
			return
		}
		fail := func(err error) { yield(storage.Info{}, err) }
		last, from, resume := startAfter, "", ""
		if startAfter != "" {
			from = b.address.prefix + startAfter
		}
		for {
			if err := ctx.Err(); err != nil {
				fail(fmt.Errorf("list %q: %w", prefix, err))
				return
			}
			var p page
			err := b.ask(ctx, "list", strconv.Quote(prefix), func(s store) (err error) {
				p, err = s.list(ctx, b.address.prefix+prefix, from, resume)
				return err
			})
			if err != nil {
				fail(err)
				return
			}
			for _, info := range p.objects {
				name, inside := strings.CutPrefix(info.Name, b.address.prefix)
				// What others put here under names that are none of ours is not ours to see.
				if !inside || name <= startAfter || storage.CheckName(name) != nil {
					continue
				}
				if name <= last {
					fail(fmt.Errorf("list %q: %w", prefix, disorder(last, name)))
					return
				}
				last, info.Name = name, name
				if !yield(info, nil) {
					return
				}
			}
			if p.resume == "" {
				return
			}
			if p.resume == resume {
				fail(fmt.Errorf("list %q: %w: the same page again and again", prefix, storage.ErrUnsupported))
				return
			}
			resume = p.resume
		}
	}
}

// disorder is what a list is refused for. Directory buckets of S3 Express are like that.
func disorder(last, name string) error {
	return &storage.Error{
		Class: storage.ErrUnsupported, Err: fmt.Errorf("it lists %s after %s", name, last),
		Hint: "use a bucket whose lists are in the order of names; directory buckets of S3 Express are not",
	}
}

// Delete removes an object, if there is one.
func (b *Bucket) Delete(ctx context.Context, name string) error {
	if err := begin(ctx, "delete", name); err != nil {
		return err
	}
	err := b.ask(ctx, "delete", name, func(s store) error { return s.remove(ctx, b.address.prefix+name) })
	if errors.Is(err, storage.ErrNotFound) {
		return nil
	}
	return err
}

// String returns the URL of the bucket.
func (b *Bucket) String() string { return b.address.url }

// Close closes idle connections.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// begin refuses what must not reach the store: a bad name, and a request that nobody waits for.
func begin(ctx context.Context, attempt, name string) error {
	if err := storage.CheckName(name); err != nil {
		return fmt.Errorf("%s: %w", attempt, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s %s: %w", attempt, name, err)
	}
	return nil
}
