package snapshot

import "github.com/varve-dev/varve/repo/blob"

// Identify tells of a manifest which snapshot it is, and when that was begun, in milliseconds since 1970:
// for the repair of a journal that no longer says so.
func Identify(n blob.Node) (id ID, begun int64, ok bool) {
	m, err := decodeManifest(n)
	if err != nil {
		return ID{}, 0, false
	}
	return m.ID, m.Started.UnixMilli(), true
}
