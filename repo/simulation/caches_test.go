package simulation

import (
	"fmt"
	"os"
)

// caches are the folders of local caches, and copies of them as they were when an image of the machine
// was made.
type caches struct {
	world  *world
	dir    string
	made   int
	images []string
}

// choose returns the cache folder of a process: none, its machine's own, or one as an older image has it.
func (c *caches) choose(t *task) string {
	own, old, which := t.rand.IntN(3) == 0, t.rand.IntN(2) == 0, t.rand.IntN(1<<20)
	if !own || c.world.off["caches"] {
		return ""
	}
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	if old && len(c.images) > 0 && !c.world.off["clones"] {
		c.world.counts["a cache of an older image"]++
		return c.copy(c.images[which%len(c.images)])
	}
	return c.folder(t.name)
}

// keep makes an image of a machine now and then.
func (c *caches) keep(t *task, cache string) {
	if cache == "" || t.rand.IntN(2) == 0 {
		return
	}
	c.world.mu.Lock()
	defer c.world.mu.Unlock()
	c.images = append(c.images, c.copy(cache))
}

func (c *caches) folder(name string) string {
	if c.dir == "" {
		c.dir = temporary()
	}
	return c.dir + "/" + name
}

func (c *caches) copy(from string) string {
	c.made++
	to := c.folder(fmt.Sprintf("image-%d", c.made))
	if _, err := os.Stat(from); err == nil {
		if err := os.CopyFS(to, os.DirFS(from)); err != nil {
			panic(err)
		}
	}
	return to
}

// remove deletes all caches.
func (c *caches) remove() {
	if c.dir != "" {
		_ = os.RemoveAll(c.dir) // of a temporary folder
	}
}

func temporary() string {
	dir, err := os.MkdirTemp(memoryFolder(), "varve-simulation-")
	if err != nil {
		panic(err)
	}
	return dir
}

// memoryFolder is where temporary files cost least.
func memoryFolder() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return os.TempDir()
}
