//go:build !linux

package child

import "syscall"

// processAttributes give a child its own process group. Only Linux can also tie its life to its parent's.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
