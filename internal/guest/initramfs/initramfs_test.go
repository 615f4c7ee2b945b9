package initramfs

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cavaliergopher/cpio"
)

// module makes the smallest ELF file with a .modinfo section.
func module(t *testing.T, info string) *fstest.MapFile {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	const headerSize, sectionSize = 64, 64
	infoAt := uint64(headerSize)
	namesAt := infoAt + uint64(len(info))
	header := elf.Header64{
		Ident: [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Shoff: namesAt + uint64(len(names)), Ehsize: headerSize, Shentsize: sectionSize, Shnum: 3, Shstrndx: 2,
	}
	sections := []elf.Section64{
		{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: infoAt, Size: uint64(len(info))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))},
	}
	var file bytes.Buffer
	for _, part := range []any{header, []byte(info + names), sections} {
		if err := binary.Write(&file, binary.LittleEndian, part); err != nil {
			t.Fatal(err)
		}
	}
	return &fstest.MapFile{Data: file.Bytes()}
}

func testTree(t *testing.T) fstest.MapFS {
	return fstest.MapFS{
		"modules.builtin":                   {Data: []byte("kernel/fs/ext4/ext4.ko\nkernel/lib/crc16.ko\n")},
		"kernel/net/virtio_net.ko":          module(t, "license=GPL\x00depends=net_failover,virtio,crc16\x00"),
		"kernel/net/net_failover.ko":        module(t, "depends=failover\x00"),
		"kernel/net/failover.ko":            module(t, "depends=\x00"),
		"kernel/drivers/virtio/virtio.ko":   module(t, "depends=virtio-ring\x00"),
		"kernel/drivers/virtio_ring.ko":     module(t, "depends=\x00name=virtio_ring\x00"),
		"kernel/drivers/char/virtio-rng.ko": module(t, "depends=virtio\x00"),
		"kernel/loop/a.ko":                  module(t, "depends=b\x00"),
		"kernel/loop/b.ko":                  module(t, "depends=a\x00"),
		"kernel/bad/lost.ko":                module(t, "depends=gone\x00"),
		"kernel/bad/text.ko":                {Data: []byte("not an ELF file")},
	}
}

func TestModulesComeAfterWhatTheyDependOn(t *testing.T) {
	modules, err := LoadOrder(testTree(t), []string{"virtio_net", "ext4", "virtio_rng", "virtio"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range modules {
		names = append(names, m.Name)
	}
	want := []string{"failover", "net_failover", "virtio_ring", "virtio", "virtio_net", "virtio_rng"}
	if !slices.Equal(names, want) {
		t.Errorf("order %q, want %q", names, want)
	}
}

func TestModulesThatCannotBeLoadedAreNamed(t *testing.T) {
	for wanted, text := range map[string]string{
		"nothing": "nothing is neither built in",
		"lost":    "gone is neither built in",
		"text":    "text depends on",
	} {
		if _, err := LoadOrder(testTree(t), []string{wanted}); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v, want %q in it", wanted, err, text)
		}
	}
}

func TestModulesThatNeedEachOtherDoNotGoRoundForEver(t *testing.T) {
	if modules, err := LoadOrder(testTree(t), []string{"a"}); err != nil || len(modules) != 2 {
		t.Errorf("%d modules, %v", len(modules), err)
	}
}

func TestArchiveHoldsTheAgentAndTheModulesInOrder(t *testing.T) {
	modules := []Module{{Name: "virtio", ELF: []byte("one")}, {Name: "virtio_net", ELF: []byte("three")}}
	var first, second bytes.Buffer
	for _, w := range []*bytes.Buffer{&first, &second} {
		if err := Write(w, []byte("agent"), modules); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Error("the same input gave different archives")
	}
	want := []string{
		"init 100755 agent", "modules 40755 ", "modules/order 100644 virtio.ko\nvirtio_net.ko\n",
		"modules/virtio.ko 100644 one", "modules/virtio_net.ko 100644 three",
	}
	var got []string
	for archive := cpio.NewReader(&first); ; {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, header.Name+" "+strings.TrimPrefix(header.Mode.String(), "0")+" "+string(content))
	}
	if !slices.Equal(got, want) {
		t.Errorf("archive:\n%q\nwant\n%q", got, want)
	}
}
