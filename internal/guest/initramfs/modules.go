package initramfs

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
)

// Guest lists the modules the agent cannot do without. Most kernels have some of them built in,
// and lean ones all.
var Guest = []string{
	"virtio_mmio", "virtio_net", "virtio_blk", "virtio_rng",
	"ext4", "erofs", "overlay",
	"fuse", // AWS guests list it in /proc/filesystems, spec/behaviour.md 11
}

// Nested lists what a guest with all capabilities gets in addition (spec/behaviour.md 11), for the
// networks of containers in it (Docker with its iptables, CNI plugins), for VPNs and for disk images.
// Nothing in the guest can load modules later: the agent's files are out of an app's reach.
var Nested = []string{
	"veth", "bridge", "br_netfilter", "tun", "loop",
	"nf_tables", "nft_compat", "nft_chain_nat", "nft_masq", "nft_nat", "nft_ct", "nft_reject_ipv4", "nft_fib_ipv4",
	"nf_conntrack_netlink", "xt_MASQUERADE", "xt_conntrack", "xt_addrtype", "xt_nat", "xt_tcpudp", "xt_mark", "xt_comment", "xt_multiport",
}

// Module is one kernel module, in the order of loading.
type Module struct {
	Name string // as the kernel knows it, with underscores
	ELF  []byte
}

// maxModule bounds one module file in bytes; the largest of the distribution has a tenth of that.
const maxModule = 64 << 20

// LoadOrder finds the wanted modules in a kernel's module tree (lib/modules/<release>) and returns
// them with all they depend on, dependencies first. What the kernel has built in is left out.
//
// It reads the dependencies out of the modules and not from modules.dep, because
// that file is made on installation and a package that was only unpacked does not have it.
func LoadOrder(tree fs.FS, wanted []string) ([]Module, error) {
	files, err := moduleFiles(tree)
	if err != nil {
		return nil, err
	}
	builtin, err := builtinModules(tree)
	if err != nil {
		return nil, err
	}
	o := ordering{tree: tree, files: files, builtin: builtin, seen: map[string]bool{}}
	for _, name := range wanted {
		if err := o.add(name); err != nil {
			return nil, err
		}
	}
	return o.modules, nil
}

type ordering struct {
	tree    fs.FS
	files   map[string]string // module name → path
	builtin map[string]bool
	seen    map[string]bool
	modules []Module
}

// add appends a module after everything it depends on.
func (o *ordering) add(name string) error {
	name = canonical(name)
	if o.seen[name] || o.builtin[name] {
		return nil
	}
	o.seen[name] = true
	file, ok := o.files[name]
	if !ok {
		return fmt.Errorf("kernel module %s is neither built in nor in the module tree", name)
	}
	data, err := readModule(o.tree, file)
	if err != nil {
		return fmt.Errorf("read kernel module %s: %w", name, err)
	}
	depends, err := dependencies(data)
	if err != nil {
		return fmt.Errorf("read what kernel module %s depends on: %w", name, err)
	}
	for _, other := range depends {
		if err := o.add(other); err != nil {
			return fmt.Errorf("%s needs: %w", name, err)
		}
	}
	o.modules = append(o.modules, Module{Name: name, ELF: data})
	return nil
}

// dependencies reads the depends= entries of a module's .modinfo section.
func dependencies(module []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, err
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, errors.New("no .modinfo section")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	var names []string
	for entry := range strings.SplitSeq(string(info), "\x00") {
		key, value, _ := strings.Cut(entry, "=")
		if key == "depends" && value != "" {
			names = append(names, strings.Split(value, ",")...)
		}
	}
	return names, nil
}

// moduleFiles maps the name of every module in the tree to its path.
func moduleFiles(tree fs.FS) (map[string]string, error) {
	files := map[string]string{}
	err := fs.WalkDir(tree, "kernel", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".ko") && entry.Type().IsRegular() {
			files[canonical(path.Base(file))] = file
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list kernel modules: %w", err)
	}
	return files, nil
}

// builtinModules reads modules.builtin: one path per line, as if each were a file.
func builtinModules(tree fs.FS) (map[string]bool, error) {
	list, err := fs.ReadFile(tree, "modules.builtin")
	if err != nil {
		return nil, fmt.Errorf("list what the kernel has built in: %w", err)
	}
	builtin := map[string]bool{}
	for line := range strings.Lines(string(list)) {
		builtin[canonical(path.Base(strings.TrimSpace(line)))] = true
	}
	return builtin, nil
}

// canonical turns a file name such as virtio-rng.ko into the kernel's name of the module.
func canonical(name string) string {
	return strings.ReplaceAll(strings.TrimSuffix(name, ".ko"), "-", "_")
}

func readModule(tree fs.FS, name string) ([]byte, error) {
	file, err := tree.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxModule+1))
	if err == nil && len(data) > maxModule {
		err = fmt.Errorf("longer than %d bytes", maxModule)
	}
	return data, err
}
