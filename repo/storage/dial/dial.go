// Package dial opens a bucket by its URL. It is the one list of drivers there is; a driver that is
// not named here is not in the program.
//
//	dir:///srv/backups     a folder, absolute
//	dir://backups          a folder, relative to the current one
//	/srv/backups           the same without a scheme; a relative path
//	./backups  ../backups  must begin with a dot, so that a mistyped URL is no folder
//
//	s3://BUCKET/PREFIX?region=eu-central-1          S3, and with endpoint=https://… what is like it
//	gs://BUCKET/PREFIX                              Google Cloud Storage
//	azblob://CONTAINER/PREFIX?account=NAME          Azure Blob Storage
//
// A path is taken as it stands: nothing in it is an escape, a query or a user name. The options of the
// others are told by package cloud.
package dial

import (
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/cloud"
	"github.com/varve-dev/varve/repo/storage/dir"
)

// ErrBadURL means that a text names no bucket this program can open.
var ErrBadURL = cloud.ErrAddress

// forms is what the message of every refusal ends with.
const forms = "give a folder as dir:///path, /path or ./path, or a bucket as s3://, gs:// or azblob:// with its name"

// Options say how to open a bucket.
type Options struct {
	// Create makes the place of the bucket, a folder for example, if it is missing. Without it a
	// missing place is [storage.ErrNoBucket]. Buckets in object stores are made by who owns them, never
	// by us.
	Create bool

	// Credentials are those of an object store, see [cloud.Options]. Nil leaves it to the URL and to the
	// provider's own ways.
	Credentials func(context.Context) (Credentials, error)

	// Conn is given each connection to a store behind a network, and returns the one to use: see
	// [limit.Bandwidth]. It may be nil.
	Conn func(net.Conn) net.Conn
}

// Credentials are keys to an object store.
type Credentials = cloud.Credentials

// Open returns the bucket at a URL. Its errors never repeat what may be a secret: of a URL that is not
// a path they show the scheme and no more.
func Open(ctx context.Context, url string, o Options) (storage.Bucket, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open bucket: %w", err)
	}
	if scheme, _, found := strings.Cut(url, "://"); found && cloud.IsScheme(scheme) {
		b, err := cloud.Open(ctx, url, cloud.Options{Credentials: o.Credentials, Conn: o.Conn})
		if err != nil {
			return nil, err
		}
		return b, nil
	}
	path, err := folderPath(url)
	if err != nil {
		return nil, err
	}
	b, err := dir.Open(path, dir.Options{Create: o.Create})
	if err != nil {
		return nil, err
	}
	return b, nil
}

// folderPath returns the path that a URL stands for.
func folderPath(url string) (string, error) {
	scheme, rest, hasScheme := strings.Cut(url, "://")
	// A path may have "://" in it somewhere, a scheme has no slash and no dot in front.
	isPath := strings.HasPrefix(url, "/") || url == "." || url == ".." || strings.HasPrefix(url, "./") || strings.HasPrefix(url, "../")
	switch {
	case url == "":
		return "", fmt.Errorf("%w: it is empty; %s", ErrBadURL, forms)
	case strings.ContainsRune(url, 0):
		return "", fmt.Errorf("%w: a path has no NUL byte; %s", ErrBadURL, forms)
	case isPath:
		return url, nil
	case hasScheme && strings.EqualFold(scheme, "dir"):
		if rest == "" {
			return "", fmt.Errorf("%w: dir:// without a path; %s", ErrBadURL, forms)
		}
		return rest, nil
	case hasScheme && isScheme(scheme):
		return "", fmt.Errorf("%w: this program has no driver for %s://; %s", ErrBadURL, scheme, forms)
	}
	return "", fmt.Errorf("%w: neither a path nor a known scheme; %s", ErrBadURL, forms)
}

// isScheme keeps an error from showing what stands before "://" by mistake.
func isScheme(s string) bool {
	if s == "" || len(s) > 12 {
		return false
	}
	for _, c := range strings.ToLower(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	return true
}
