package files

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
	"time"
)

// Type is what kind of file an entry is.
type Type uint8

// The types. Their numbers are part of the format.
const (
	Regular     Type = 1
	Directory   Type = 2
	Symlink     Type = 3
	FIFO        Type = 4
	CharDevice  Type = 5
	BlockDevice Type = 6
	Socket      Type = 7 // seen by the walk, never stored
)

var typeNames = [...]string{Regular: "file", Directory: "directory", Symlink: "symbolic link", FIFO: "FIFO",
	CharDevice: "character device", BlockDevice: "block device", Socket: "socket"}

// String returns the type's word.
func (t Type) String() string {
	if t >= Regular && int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type(%d)", uint8(t))
}

// Attributes are what is known of a file besides its content.
type Attributes struct {
	Type     Type
	Mode     uint32 // the lower twelve bits: permissions, setuid, setgid, sticky
	UID, GID uint32
	Mtime    time.Time // of the last change of the content, with nanoseconds
	Ctime    time.Time // of the last change of the content or of these attributes
	Inode    uint64
	Links    uint64 // number of names the file had when it was read, also outside the tree
	Size     int64  // regular files: bytes of the content as stored
	Target   string // symbolic links: where they point
	Link     string // regular files: the path of the first name, if this is another one of the same file
	Device   Device // devices
	Xattrs   []Xattr
}

// Device is the number of a device.
type Device struct{ Major, Minor uint32 }

// Xattr is one extended attribute. ACLs are among them.
type Xattr struct {
	Name  string
	Value []byte
}

// Bounds of attributes. All of one file's together must fit into a map's entry.
const (
	maxTarget = 4095
	maxXattr  = 64 << 10
	maxXattrs = 160 << 10
)

// Encode returns the attributes as they stand in an entry. Integers are varints, those that can be
// negative in zigzag form; a string is its length and its bytes; the extended attributes stand in
// ascending order of their names.
//
//	type │ mode │ uid │ gid │ mtime │ ctime │ inode │ links │ by type │ number of xattrs │ (name │ value) …
//
//	time      seconds since 1970 │ nanoseconds
//	by type   regular: size │ key of the first name, or ""
//	          symlink: target        device: major │ minor
func (a Attributes) Encode() []byte {
	b := make([]byte, 0, 64)
	b = append(b, byte(a.Type))
	for _, n := range []uint64{uint64(a.Mode), uint64(a.UID), uint64(a.GID)} {
		b = binary.AppendUvarint(b, n)
	}
	for _, t := range []time.Time{a.Mtime, a.Ctime} {
		b = binary.AppendVarint(b, t.Unix())
		b = binary.AppendUvarint(b, uint64(t.Nanosecond()))
	}
	b = binary.AppendUvarint(b, a.Inode)
	b = binary.AppendUvarint(b, a.Links)
	switch a.Type {
	case Regular:
		b = binary.AppendUvarint(b, uint64(a.Size))
		b = appendString(b, strings.ReplaceAll(a.Link, "/", "\x00"))
	case Symlink:
		b = appendString(b, a.Target)
	case CharDevice, BlockDevice:
		b = binary.AppendUvarint(b, uint64(a.Device.Major))
		b = binary.AppendUvarint(b, uint64(a.Device.Minor))
	}
	b = binary.AppendUvarint(b, uint64(len(a.Xattrs)))
	for _, x := range a.Xattrs {
		b = appendString(b, x.Name)
		b = appendString(b, string(x.Value))
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeAttributes reads what Encode wrote. Anything else, other spellings of the same included,
// gives an error wrapping [ErrMalformed].
func DecodeAttributes(b []byte) (Attributes, error) {
	d := decoder{b: b}
	a := Attributes{
		Type:  Type(d.number(uint64(BlockDevice))),
		Mode:  uint32(d.number(0o7777)),
		UID:   uint32(d.number(math.MaxUint32)),
		GID:   uint32(d.number(math.MaxUint32)),
		Mtime: d.time(),
		Ctime: d.time(),
		Inode: d.number(math.MaxUint64),
		Links: d.number(math.MaxUint64),
	}
	switch a.Type {
	case Regular:
		a.Size = int64(d.number(math.MaxInt64))
		if link := d.string(math.MaxInt); link != "" {
			path, err := Path([]byte(link))
			if err != nil || path == "." {
				d.fail("a link to %q", link)
			}
			a.Link = path
		}
	case Symlink:
		a.Target = d.string(maxTarget)
		if a.Target == "" || strings.IndexByte(a.Target, 0) >= 0 {
			d.fail("a symbolic link to %q", a.Target)
		}
	case CharDevice, BlockDevice:
		a.Device = Device{uint32(d.number(math.MaxUint32)), uint32(d.number(math.MaxUint32))}
	case Directory, FIFO:
	default:
		d.fail("unknown type %d", a.Type)
	}
	a.Xattrs = d.xattrs()
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes too many", len(d.b))
	}
	if d.err != nil {
		return Attributes{}, d.err
	}
	return a, nil
}

// decoder reads Encode's fields. After the first error it gives zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.b = nil
}

// skip moves on by a varint of the given size as the binary package reports it.
func (d *decoder) skip(size int) bool {
	if size <= 0 || size > 1 && d.b[size-1] == 0 {
		d.fail("not a number in its shortest form")
		return false
	}
	d.b = d.b[size:]
	return true
}

func (d *decoder) number(most uint64) uint64 {
	n, size := binary.Uvarint(d.b)
	if !d.skip(size) {
		return 0
	}
	if n > most {
		d.fail("%d where at most %d can be", n, most)
		return 0
	}
	return n
}

func (d *decoder) time() time.Time {
	sec, size := binary.Varint(d.b)
	if !d.skip(size) {
		return time.Time{}
	}
	// Beyond this, time.Time would wrap; no file system reaches it.
	if sec < -1<<55 || sec > 1<<55 {
		d.fail("a time %d seconds from 1970", sec)
		return time.Time{}
	}
	return time.Unix(sec, int64(d.number(999_999_999))).UTC()
}

func (d *decoder) string(most int) string {
	n := d.number(uint64(most))
	if n > uint64(len(d.b)) {
		d.fail("%d bytes announced, %d there", n, len(d.b))
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}

func (d *decoder) xattrs() (list []Xattr) {
	n := d.number(uint64(len(d.b))) // one takes two bytes at least
	last := ""
	for range n {
		x := Xattr{Name: d.string(maxName)}
		x.Value = []byte(d.string(maxXattr))
		if x.Name <= last || strings.IndexByte(x.Name, 0) >= 0 {
			d.fail("extended attribute %q after %q", x.Name, last)
		}
		if d.err != nil {
			return nil
		}
		last = x.Name
		list = append(list, x)
	}
	return list
}

// Equal reports whether both have the same fields.
func (a Attributes) Equal(o Attributes) bool { return bytes.Equal(a.Encode(), o.Encode()) }
