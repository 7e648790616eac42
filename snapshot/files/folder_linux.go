package files

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// beneath is how everything is opened: no way leads out of the directory, through a symbolic link or
// into another file system.
const beneath = unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV

// folder is an open directory. All file operations of the package are its methods; each takes one
// name in the directory, but for link, and none can be led elsewhere. It is closed when its last
// holder releases it.
type folder struct {
	file    *os.File
	fd      int
	holders atomic.Int64
	last    func() // called by the last holder's release, before the directory is closed; may be nil
}

// seen is a file as the system shows it now, without a link's target and extended attributes.
type seen struct {
	Attributes
	device uint64 // of the file system
}

// fileID tells files apart, whatever their names.
type fileID struct{ device, inode uint64 }

func (s seen) id() fileID { return fileID{s.device, s.Inode} }

// openRoot opens the directory at a path that the user gave, following links.
func openRoot(path string) (*folder, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return newFolder(fd), nil
}

func newFolder(fd int) *folder {
	f := &folder{file: os.NewFile(uintptr(fd), ""), fd: fd}
	f.holders.Store(1)
	return f
}

// hold adds a holder and returns f.
func (f *folder) hold() *folder {
	f.holders.Add(1)
	return f
}

func (f *folder) release() {
	if f.holders.Add(-1) > 0 {
		return
	}
	if f.last != nil {
		f.last()
	}
	_ = f.file.Close() // nothing was written through it
}

// names returns the names in the directory in ascending order.
func (f *folder) names() ([]string, error) {
	names, err := f.file.Readdirnames(-1)
	slices.Sort(names)
	return slices.Compact(names), err
}

// stat looks at a name itself, links not followed.
func (f *folder) stat(name string) (seen, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(f.fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return seen{}, wrap("stat", err)
	}
	return seenIn(&st), nil
}

func (f *folder) open(name string, flags, mode uint64) (int, error) {
	how := unix.OpenHow{Flags: flags | unix.O_CLOEXEC | unix.O_NOFOLLOW, Mode: mode, Resolve: beneath}
	for {
		fd, err := unix.Openat2(f.fd, name, &how)
		if err == nil {
			return fd, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return -1, wrap("open", err)
		}
	}
}

// openFolder opens a directory in the directory.
func (f *folder) openFolder(name string) (*folder, seen, error) {
	fd, err := f.open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, seen{}, err
	}
	sub := newFolder(fd)
	a, err := statOpen(fd)
	if err != nil {
		sub.release()
		return nil, seen{}, err
	}
	return sub, a, nil
}

// openFile opens a regular file for reading. Whatever else has taken the name gives an error and is
// not touched: a FIFO does not block, a link is not followed.
func (f *folder) openFile(name string) (*os.File, seen, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY
	fd, err := f.open(name, flags|unix.O_NOATIME, 0)
	if errors.Is(err, unix.EPERM) { // only an owner may leave the access time alone
		fd, err = f.open(name, flags, 0)
	}
	if err != nil {
		return nil, seen{}, err
	}
	a, err := statOpen(fd)
	if err == nil && a.Type != Regular {
		err = fmt.Errorf("open: %w by a %s", errGone, a.Type)
	}
	if err != nil {
		unix.Close(fd)
		return nil, seen{}, err
	}
	return os.NewFile(uintptr(fd), name), a, nil
}

// createFile makes a new regular file that only its owner can open.
func (f *folder) createFile(name string) (*os.File, error) {
	fd, err := f.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// makeFolder makes a directory that only its owner can enter.
func (f *folder) makeFolder(name string) error {
	return wrap("make directory", unix.Mkdirat(f.fd, name, 0o700))
}

// letOwnerIn makes a directory writable for its owner until its final mode is set. Where that is not
// allowed, what is to be written says so.
func (f *folder) letOwnerIn(have seen) {
	const rwx = 0o700
	if have.Mode&rwx != rwx {
		_ = unix.Fchmod(f.fd, have.Mode|rwx)
	}
}

func (f *folder) makeSymlink(name, target string) error {
	return wrap("make symbolic link", unix.Symlinkat(target, f.fd, name))
}

func (f *folder) makeFIFO(name string) error {
	return wrap("make FIFO", unix.Mknodat(f.fd, name, unix.S_IFIFO|0o600, 0))
}

// link gives the file at a path beneath root another name in this directory.
func (f *folder) link(root *folder, path, name string) error {
	dir, old := ".", path
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		dir, old = path[:i], path[i+1:]
	}
	from, err := root.open(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(from)
	return wrap("link", unix.Linkat(from, old, f.fd, name, 0))
}

func (f *folder) remove(name string) error {
	return wrap("remove", unix.Unlinkat(f.fd, name, 0))
}

// rename moves a name within the directory, over what is there or not.
func (f *folder) rename(old, name string, replace bool) error {
	if !replace {
		err := unix.Renameat2(f.fd, old, f.fd, name, unix.RENAME_NOREPLACE)
		if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
			return wrap("rename", err)
		}
		// The file system does not know the flag; the caller has looked that the name is free.
	}
	return wrap("rename", unix.Renameat(f.fd, old, f.fd, name))
}

// readlink returns where a symbolic link points.
func (f *folder) readlink(name string) (string, error) {
	buf := make([]byte, maxTarget+1)
	n, err := unix.Readlinkat(f.fd, name, buf)
	if errors.Is(err, unix.EINVAL) {
		return "", fmt.Errorf("read symbolic link: %w", errGone)
	}
	if err != nil {
		return "", wrap("read symbolic link", err)
	}
	if n == 0 || n > maxTarget {
		return "", fmt.Errorf("read symbolic link: a target of %d bytes", n)
	}
	return string(buf[:n]), nil
}

// setOwnerOf, setModeOf and setTimesOf are for what cannot be opened: links and FIFOs.
func (f *folder) setOwnerOf(name string, a Attributes) error {
	return wrap("set owner", unix.Fchownat(f.fd, name, int(a.UID), int(a.GID), unix.AT_SYMLINK_NOFOLLOW))
}

// setModeOf opens the name without following it, because the system call that takes a name would.
func (f *folder) setModeOf(name string, a Attributes) error {
	fd, err := f.open(name, unix.O_PATH, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if now, err := statOpen(fd); err != nil || now.Type != a.Type {
		return errors.Join(err, errGone)
	}
	return wrap("set mode", unix.Chmod(procPath(fd), a.Mode))
}

func (f *folder) setTimesOf(name string, t time.Time) error {
	return wrap("set times", unix.UtimesNanoAt(f.fd, name, timespecs(t), unix.AT_SYMLINK_NOFOLLOW))
}

// sync makes everything in the directory's file system durable.
func (f *folder) sync() error { return wrap("sync", unix.Syncfs(f.fd)) }

// statOpen looks at an open file.
func statOpen(fd int) (seen, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return seen{}, wrap("stat", err)
	}
	return seenIn(&st), nil
}

func typeOf(mode uint32) Type {
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return Regular
	case unix.S_IFDIR:
		return Directory
	case unix.S_IFLNK:
		return Symlink
	case unix.S_IFIFO:
		return FIFO
	case unix.S_IFCHR:
		return CharDevice
	case unix.S_IFBLK:
		return BlockDevice
	}
	return Socket // the only other one that Linux has
}

func seenIn(st *unix.Stat_t) seen {
	a := Attributes{
		Type:  typeOf(st.Mode),
		Mode:  st.Mode & 0o7777,
		UID:   st.Uid,
		GID:   st.Gid,
		Mtime: time.Unix(st.Mtim.Unix()).UTC(),
		Ctime: time.Unix(st.Ctim.Unix()).UTC(),
		Inode: st.Ino,
		Links: uint64(st.Nlink),
	}
	switch a.Type {
	case Regular:
		a.Size = st.Size
	case Directory:
		a.Links = 0 // some file systems count subdirectories, which are in the map anyway
	case CharDevice, BlockDevice:
		a.Device = Device{unix.Major(uint64(st.Rdev)), unix.Minor(uint64(st.Rdev))}
	}
	return seen{a, uint64(st.Dev)}
}

// xattrsOf returns the extended attributes of an open file in the order of their names. A file
// system without them has none.
func xattrsOf(fd int) ([]Xattr, error) {
	names, err := grow(func(buf []byte) (int, error) { return unix.Flistxattr(fd, buf) })
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var list []Xattr
	total := 0
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name == "" {
			continue
		}
		value, err := grow(func(buf []byte) (int, error) { return unix.Fgetxattr(fd, name, buf) })
		if errors.Is(err, unix.ENODATA) { // removed just now
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if total += len(name) + len(value); total > maxXattrs {
			return nil, fmt.Errorf("more than %d bytes of extended attributes", maxXattrs)
		}
		list = append(list, Xattr{Name: name, Value: value})
	}
	slices.SortFunc(list, func(x, y Xattr) int { return strings.Compare(x.Name, y.Name) })
	return list, nil
}

// grow calls read with a small buffer, and with the largest that there can be if that is too small.
func grow(read func([]byte) (int, error)) ([]byte, error) {
	buf := make([]byte, 256)
	n, err := read(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxXattr)
		n, err = read(buf)
	}
	if err != nil {
		return nil, err
	}
	return bytes.Clone(buf[:n]), nil
}

// setTimes sets an open file's times; both, since the time of access means nothing after a restore.
func setTimes(fd int, t time.Time) error {
	return wrap("set times", unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), timespecs(t), 0))
}

// procPath names an open file for system calls that, on some kernels that know openat2, do not take
// a descriptor.
func procPath(fd int) string { return fmt.Sprintf("/proc/self/fd/%d", fd) }

func timespecs(t time.Time) []unix.Timespec {
	ts := unix.Timespec{Nsec: int64(t.Nanosecond())}
	ts.Sec = t.Unix()
	return []unix.Timespec{ts, ts}
}

// wrap names the attempt that failed, and says what it means where that can be told.
func wrap(attempt string, err error) error {
	if err == nil {
		return nil
	}
	switch errno, _ := errors.AsType[unix.Errno](err); errno {
	case unix.ENOENT, unix.ELOOP, unix.ENOTDIR, unix.ENXIO, unix.ESTALE:
		return fmt.Errorf("%s: %w: %w", attempt, errGone, err)
	case unix.EXDEV:
		return fmt.Errorf("%s: %w: %w", attempt, errMount, err)
	}
	return fmt.Errorf("%s: %w", attempt, err)
}
