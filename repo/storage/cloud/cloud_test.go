package cloud

import (
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/varve-dev/varve/repo/storage"
	"github.com/varve-dev/varve/repo/storage/storagetest"
)

// The library's own bucket in memory stands in for the stores, whose drivers keep the same contract.
func TestStorage(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return New(memblob.OpenBucket(nil), "test://bucket") })
}
